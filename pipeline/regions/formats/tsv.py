"""Region features in tab-separated lines without a header. Arrays are base64 of little-endian numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.ids import read_id
from pipeline.regions.rows import NO_CLASSES, ArgMax, RegionRows, argmax_info, make_argmax_row, make_row
from shards.regions.table import RegionsInfo, RegionsRow
from shards.regions.tsv import (
    BOTTOM_UP_ATTENTION,
    REFERENCE,
    VQA,
    Fields,
    decode_numbers,
    decode_regions,
    parse_integer,
    split_line,
)
from shards.storage.files import AnyPath

LXMERT = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)


@dataclass(frozen=True)
class ByteRange:
    """The lines of a file that begin at the bytes ``start`` to ``end - 1``."""

    path: AnyPath
    start: int
    end: int
    beside: tuple[AnyPath, ...] = ()
    """files that say more of the same images"""


class Lines:
    """Reads the lines of a file. The file is cut into ranges of bytes, so that nothing is read twice."""

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """Returns the sources, which are the files.

        Raises:
            InputError: a file is compressed and so cannot be read from the middle.
        """
        for path in sources:
            if path.suffix == ".gz":
                raise InputError(f"{path}: is compressed; unpack it first (gunzip --keep)")
        return list(sources)

    def is_beside(self, _: AnyPath) -> bool:
        """Returns whether a file has no features, but says more of the images of the others."""
        return False

    def partitions(self, files: Sequence[AnyPath], size: int) -> Iterator[ByteRange]:
        """Yields ranges of about ``size`` times the length of the first line."""
        beside = tuple(path for path in files if self.is_beside(path))
        for path in (path for path in files if path not in beside):
            with path.open("rb") as stream:
                step = max(1, len(stream.readline())) * size
            total = path.stat().st_size
            for start in range(0, total, step):
                yield ByteRange(path, start, min(start + step, total), beside)

    def read(self, partition: ByteRange, info: RegionsInfo) -> RegionRows:
        """See `RegionFormat`."""
        with partition.path.open("rb") as stream:
            stream.seek(max(partition.start - 1, 0))
            if partition.start:
                stream.readline()  # the line that begins before the range belongs to the range before
            while (position := stream.tell()) < partition.end:
                line = stream.readline()
                try:
                    yield self.row(line, info, f"{partition.path.name}@{position}", partition.beside)
                except ValueError as error:
                    yield Reject(str(partition.path), f"byte {position}", str(error))

    def row(self, line: bytes, info: RegionsInfo, place: str, beside: Sequence[AnyPath]) -> RegionsRow:
        """Returns the regions of a line.

        Args:
            line: the line.
            info: what holds for all rows.
            place: where the line begins, as FILE@BYTE.
            beside: files that say more of the same images.

        Raises:
            ValueError: they are not valid, for the reason that the message gives.
        """
        raise NotImplementedError


class BottomUpTsv(Lines):
    """Reads bottom-up-attention features, in their original six columns or in LXMERT's ten.

    The ten columns have the most likely class and attribute of each box and their confidence. The six have no classes.
    Neither has a distribution.
    """

    def inspect(
        self, sources: Sequence[AnyPath], class_names: list[str] | None, feature_size: int | None = None
    ) -> RegionsInfo:
        """See `RegionFormat`."""
        fields, size = _first_good(sources, (LXMERT, BOTTOM_UP_ATTENTION), feature_size)
        if "objects_id" not in fields:
            return RegionsInfo(size, NO_CLASSES, None)
        return argmax_info(size, class_names)

    def row(self, line: bytes, info: RegionsInfo, _: str, __: Sequence[AnyPath]) -> RegionsRow:
        """See `Lines.row`."""
        fields = split_line(line, LXMERT if info.classes.kind == "argmax" else BOTTOM_UP_ATTENTION)
        if info.classes.kind == "none":
            return _plain_row(fields["img_id"], fields, info)
        n, width, height = (parse_integer(fields[name], name) for name in ("num_boxes", "img_w", "img_h"))
        boxes, features = decode_regions(fields, n, info.feature_size)
        found = ArgMax(*(decode_numbers(fields, name, n) for name in LXMERT[3:7]))
        return make_argmax_row(read_id(fields["img_id"]), width, height, boxes, features, found, info)


class ErnieVilTsv(Lines):
    """Reads the files that the released ERNIE-ViL fine-tunes on: Flickr30k's images, VQA and RefCOCO+, without classes.

    The image id is the image's id in Flickr30k's files, and the question's id in VQA's. RefCOCO+'s files have no id, so
    it is FILE@BYTE there, where the line of the expression begins; the gold boxes follow the detector's.
    """

    def inspect(self, sources: Sequence[AnyPath], _: list[str] | None, feature_size: int | None = None) -> RegionsInfo:
        """See `RegionFormat`."""
        size = _first_good(sources, (BOTTOM_UP_ATTENTION, VQA, REFERENCE), feature_size)[1]
        return RegionsInfo(size, NO_CLASSES, None)

    def row(self, line: bytes, info: RegionsInfo, place: str, _: Sequence[AnyPath]) -> RegionsRow:
        """See `Lines.row`."""
        columns = line.count(b"\t") + 1
        if columns == len(BOTTOM_UP_ATTENTION):
            fields = split_line(line, BOTTOM_UP_ATTENTION)
            return _plain_row(fields["img_id"], fields, info)
        if _is_reference(line):
            fields = split_line(line, REFERENCE)
            gold = parse_integer(fields["num_gold"], "num_gold")
            return _plain_row(place, fields, info, gold)
        fields = split_line(line, VQA)
        return _plain_row(fields["question_id"], fields, info)


def _is_reference(line: bytes) -> bool:
    """Returns whether a line is RefCOCO+'s: it has numbers in columns 2 to 5, and VQA has a question in column 2."""
    return all(field.isdigit() for field in line.split(b"\t", 5)[1:5])


def _plain_row(image_id: str, fields: Fields, info: RegionsInfo, gold: int = 0) -> RegionsRow:
    n, width, height = (parse_integer(fields[name], name) for name in ("num_boxes", "img_w", "img_h"))
    boxes, features = decode_regions(fields, n + gold, info.feature_size)
    return make_row(read_id(image_id), width, height, boxes, features, None, info)


def _first_good(
    sources: Sequence[AnyPath], layouts: Sequence[tuple[str, ...]], feature_size: int | None
) -> tuple[Fields, int]:
    """Returns the first line that fits one of the layouts, and its feature size, read as float32 if it is not given."""
    for path in sources:
        with path.open("rb") as stream:
            for line in stream:
                for layout in layouts:
                    try:
                        fields = split_line(line, layout)
                        n = parse_integer(fields["num_boxes"], "") + parse_integer(fields.get("num_gold", 0), "")
                        size = feature_size or len(decode_numbers(fields, "features")) // max(n, 1)
                    except ValueError:
                        continue
                    if size:
                        return fields, size
    expected = "; or ".join(", ".join(layout) for layout in layouts)
    raise InputError(f"{sources[0]}: no line with the tab-separated columns {expected}")
