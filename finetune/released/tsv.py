"""The tab-separated files that the released ERNIE-ViL fine-tunes on, read in place: features are in every line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parsers.command import InputError
from shards.regions.table import RegionsRow
from shards.regions.tsv import Fields, decode, decode_regions, parse_integer, split_line
from shards.schema import Regions

SUFFIX = ".tsv"


def is_released(split: str) -> bool:
    """Whether the name of a split is that of a released file."""
    return split.endswith((SUFFIX, SUFFIX + ".gz"))


def read_lines(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, Fields]]:
    """Every line as FILE@BYTE, where it begins, and its fields.

    Raises:
        InputError: the file is missing or compressed, or a line has other columns.
    """
    if path.suffix == ".gz":
        raise InputError(f"{path}: is compressed and cannot be read from the middle; unpack it first (gunzip --keep)")
    try:
        with path.open("rb") as stream:
            while True:
                start = stream.tell()
                line = stream.readline()
                if not line:
                    return
                try:
                    yield f"{path.name}@{start}", split_line(line, columns)
                except ValueError as error:
                    raise InputError(f"{path}: byte {start}: {error} ({', '.join(columns)})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


class LineRegions:
    """The regions in the lines of a released file, known by FILE@BYTE; in RefCOCO+ gold boxes follow the detector's."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        """Looks at the first line.

        Raises:
            InputError: see `read_lines`; or it holds no features.
        """
        self._path, self._columns = path, columns
        _, fields = next(read_lines(path, columns), ("", None))
        if fields is None:
            raise InputError(f"{path}: is empty")
        try:
            self.feature_size = len(decode(fields, "features")) // max(_boxes(fields), 1)
        except ValueError as error:
            raise InputError(f"{path}: line 1: {error}") from None

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and image_id.startswith(f"{self._path.name}@")

    def __getitem__(self, image_id: str) -> RegionsRow:
        """The regions of a line, in float32 as they stand there.

        Raises:
            InputError: they are damaged.
        """
        start = int(image_id.rpartition("@")[2])
        with self._path.open("rb") as stream:
            stream.seek(start)
            line = stream.readline()
        try:
            fields = split_line(line, self._columns)
            width, height = (parse_integer(fields[name], name) for name in ("img_w", "img_h"))
            regions = Regions(*decode_regions(fields, _boxes(fields), self.feature_size), None, None)
            regions.check(width, height)
        except ValueError as error:
            raise InputError(f"{self._path}: byte {start}: {error}") from None
        return RegionsRow(image_id, width, height, regions)


def _boxes(fields: Fields) -> int:
    return sum(parse_integer(fields[name], name) for name in ("num_boxes", "num_gold") if name in fields)
