"""What a stage leaves of one partition: files, rejects, statistics, and the marker that says that they are complete."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import BinaryIO

from parsers.command import InputError
from shards.storage.files import AnyPath, NewFile, read_record, write_record


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that a stage could not use."""

    source: str
    position: str
    """where in the source the row is: ``line 12``, ``annotations[3]``, ``byte 4711``"""
    reason: str


class Part:
    """What a stage writes of one partition: files, rejects and statistics.

    Nothing appears before `complete` is called. If a part is not completed, `discard` must be called.
    """

    def __init__(self, out: AnyPath, number: int, report_rows: Callable[[int], None] = lambda _: None) -> None:
        """Makes an empty part.

        Args:
            out: the folder of the stage.
            number: of the partition.
            report_rows: hears of rows that are done, all in all of ``statistics["rows"]``.
        """
        self.number = number
        self.name = f"part-{number:05d}"
        self.statistics: Counter[str] = Counter()
        self.rejects: list[Reject] = []
        self._out = out
        self._files: dict[str, NewFile] = {}
        self._report_rows, self._reported = report_rows, 0

    def advance(self, rows: int) -> None:
        """Reports rows as done. A stage that needs long for a part calls it, the others leave it to `complete`."""
        self._reported += rows
        self._report_rows(rows)

    @contextmanager
    def open(self, file: str) -> Iterator[BinaryIO]:
        """Opens a new file of this part; ``file`` is relative to the output folder."""
        new = self._files[file] = NewFile(self._out / file)
        yield new.stream
        new.flush()

    def complete(self) -> None:
        """Puts all files in place, the marker last."""
        if self.rejects:
            with self.open(f"rejects/{self.name}.jsonl") as stream:
                for reject in self.rejects:
                    stream.write((json.dumps(asdict(reject), ensure_ascii=False) + "\n").encode())
        for file in self._files.values():
            file.publish()
        marker = Marker(
            {name: file.size for name, file in self._files.items()},
            dict(sorted(self.statistics.items())),
            dict(sorted(Counter(reject.reason for reject in self.rejects).items())),
        )
        write_record(asdict(marker), path_of_marker(self._out, self.number))
        self.advance(self.statistics["rows"] - self._reported)

    def discard(self) -> None:
        """Removes what was written. Files that are in place already are written again by the next run."""
        for file in self._files.values():
            file.discard()


@dataclass(frozen=True)
class Marker:
    """What the marker of a complete part says."""

    files: dict[str, int]
    """the size in bytes of each file, by its path below the output folder"""
    statistics: dict[str, int]
    rejects: dict[str, int]
    """counts by reason"""


def path_of_marker(out: AnyPath, number: int) -> AnyPath:
    """Returns the path of the file that says that part ``number`` is complete."""
    return out / f"part-{number:05d}.stats.json"


def read_marker(out: AnyPath, number: int) -> Marker | None:
    """Reads the marker of a part. Returns None if the part is not complete."""
    try:
        marker = Marker(**read_record(path_of_marker(out, number)))
        whole = all((out / file).stat().st_size == size for file, size in marker.files.items())
    except (InputError, OSError, TypeError, AttributeError):  # the file is missing, damaged or something else
        return None
    return marker if whole else None
