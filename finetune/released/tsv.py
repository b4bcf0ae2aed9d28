"""The tab-separated files that the released ERNIE-ViL fine-tunes on, read in place.

In the files of VQA and RefCOCO+ every line also holds the regions of its image. These are read when they are needed,
by the byte at which the line begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from parsers.command import InputError
from shards.regions.table import RegionsRow
from shards.regions.tsv import Fields, decode_numbers, decode_regions, parse_integer, split_line
from shards.schema import Regions

T = TypeVar("T")
SUFFIX = ".tsv"


def is_released(split: str) -> bool:
    """Says whether the name of a split is that of a released file."""
    return split.endswith((SUFFIX, SUFFIX + ".gz"))


def parse_lines(path: Path, columns: tuple[str, ...], parse: Callable[[str, Fields], T]) -> list[T]:
    """Parses every line of a file.

    Args:
        path: the file.
        columns: the names of its fields.
        parse: takes the name of a line, FILE@BYTE (where it begins), and its fields. It may raise ValueError.

    Raises:
        InputError: the file is missing or compressed, or a line is damaged.
    """
    parsed, start = list[T](), 0
    with _open(path) as stream:
        for line in stream:
            parsed.append(_parse(path, start, line, columns, parse))
            start += len(line)
    return parsed


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    if path.suffix == ".gz":
        raise InputError(f"{path}: is compressed and cannot be read from the middle; unpack it first (gunzip --keep)")
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _parse(path: Path, start: int, line: bytes, columns: tuple[str, ...], parse: Callable[[str, Fields], T]) -> T:
    try:
        return parse(f"{path.name}@{start}", split_line(line, columns))
    except ValueError as error:
        raise InputError(f"{path}: line at byte {start}: {error}") from error


class LineRegions:
    """The regions in the lines of a released file, by the name of the line: FILE@BYTE.

    In the files of RefCOCO+ the ground-truth boxes come after those of the detector.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        """Looks at the first line.

        Raises:
            InputError: the file is missing, compressed or empty, or the first line is damaged.
        """
        self._path, self._columns = path, columns
        line = self._line_at(0)
        if not line:
            raise InputError(f"{path}: is empty")
        self.feature_size = _parse(path, 0, line, columns, lambda _, fields: _feature_size(fields))

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and image_id.startswith(f"{self._path.name}@")

    def __getitem__(self, image_id: str) -> RegionsRow:
        """Returns the regions of a line, in float32 as they stand there.

        Raises:
            InputError: the line is damaged.
        """
        start = int(image_id.rpartition("@")[2])
        return _parse(self._path, start, self._line_at(start), self._columns, self._row)

    def _line_at(self, start: int) -> bytes:
        with _open(self._path) as stream:
            stream.seek(start)
            return stream.readline()

    def _row(self, name: str, fields: Fields) -> RegionsRow:
        width, height = (parse_integer(fields[column], column) for column in ("img_w", "img_h"))
        regions = Regions(*decode_regions(fields, _count_boxes(fields), self.feature_size), None, None)
        regions.check(width, height)
        return RegionsRow(name, width, height, regions)


def _feature_size(fields: Fields) -> int:
    return len(decode_numbers(fields, "features")) // max(_count_boxes(fields), 1)


def _count_boxes(fields: Fields) -> int:
    return sum(parse_integer(fields[name], name) for name in ("num_boxes", "num_gold") if name in fields)
