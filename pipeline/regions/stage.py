"""Others' detector features to regions: ``python -m pipeline.regions SOURCE... --out data/regions``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.execution.parts import Part, Reject
from pipeline.files import fingerprint
from pipeline.regions.formats import FORMATS
from shards.regions.table import RegionsInfo, RegionsRow, write_regions
from shards.storage.files import AnyPath


@dataclass(frozen=True)
class RegionsStage:
    """Checks and converts the regions of every image."""

    files: tuple[AnyPath, ...]
    format: str
    info: RegionsInfo
    partition_size: int
    name: str = "regions"

    def fingerprint(self) -> dict[str, Any]:
        """See `pipeline.execution.executor.Stage`."""
        return {
            "inputs": [fingerprint(path) for path in self.files],
            "format": self.format,
            "info": self.info.to_metadata(),
            "partition_size": self.partition_size,
        }

    def partitions(self) -> Iterator[Any]:
        """See `pipeline.regions.formats.RegionFormat.partitions`."""
        return FORMATS[self.format].partitions(list(self.files), self.partition_size)

    def total(self) -> int | None:
        """See `pipeline.execution.executor.Stage`."""
        return sum(1 for _ in self.partitions())

    def estimated_bytes(self) -> int:
        """At most what the sources have."""
        return sum(path.stat().st_size for path in self.files)

    def worker(self) -> Callable[[Any, Part], None]:
        """See `pipeline.execution.executor.Stage`."""
        return self._convert

    def _convert(self, partition: Any, part: Part) -> None:
        rows: list[RegionsRow] = []
        for row in FORMATS[self.format].read(partition, self.info):
            part.statistics["rows"] += 1
            if isinstance(row, Reject):
                part.rejects.append(row)
                continue
            part.statistics["images"] += 1
            part.statistics["boxes"] += len(row.regions.boxes)
            rows.append(row)
        with part.open(f"{part.name}.parquet") as stream:
            write_regions(stream, rows, self.info)

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Nothing to merge."""
