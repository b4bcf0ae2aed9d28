"""What a stage leaves of one partition: files, rejects, statistics, and the marker that says that they are complete."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from shards.storage.files import AnyPath, NewFile, write_indented_json


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that a stage could not use."""

    source: str
    position: str
    """Where in the source: ``line 12``, ``annotations[3]``, ``byte 4711``"""
    reason: str


class Part:
    """What a stage writes of one partition: files, rejects and statistics.

    Nothing appears before `complete`; a part that is not completed must be `discard`-ed.
    """

    def __init__(self, out: AnyPath, number: int) -> None:
        self.number = number
        self.name = f"part-{number:05d}"
        self.statistics: Counter[str] = Counter()
        self.rejects: list[Reject] = []
        self._out = out
        self._files: dict[str, NewFile] = {}

    @contextmanager
    def open(self, file: str) -> Iterator[BinaryIO]:
        """A new file of this part, ``file`` relative to the output folder."""
        new = self._files[file] = NewFile(self._out / file)
        yield new.stream
        new.flush()

    def complete(self) -> None:
        """Puts all files in place, the marker last."""
        if self.rejects:
            with self.open(f"rejects/{self.name}.jsonl") as stream:
                for reject in self.rejects:
                    row = {"source": reject.source, "position": reject.position, "reason": reject.reason}
                    stream.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
        for file in self._files.values():
            file.publish()
        record = {
            "files": {name: file.size for name, file in self._files.items()},
            "statistics": dict(sorted(self.statistics.items())),
            "rejects": dict(sorted(Counter(reject.reason for reject in self.rejects).items())),
        }
        write_indented_json(record, marker_of(self._out, self.number))

    def discard(self) -> None:
        """Removes what was written; files that are published already are written again by the next run."""
        for file in self._files.values():
            file.discard()


def marker_of(out: AnyPath, number: int) -> AnyPath:
    """The file that says that part ``number`` is complete."""
    return out / f"part-{number:05d}.stats.json"


def read_marker(out: AnyPath, number: int) -> dict[str, Any] | None:
    """What the marker of a complete part says; None if the part is not complete."""
    try:
        record: dict[str, Any] = json.loads(marker_of(out, number).read_bytes())
        whole = all((out / file).stat().st_size == size for file, size in record["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return record if whole else None
