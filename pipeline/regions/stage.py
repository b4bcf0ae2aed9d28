"""The stage that converts published detector features into regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from pipeline.execution.engines import Work
from pipeline.execution.parts import Part, Reject
from pipeline.files import fingerprint
from pipeline.regions.formats import FORMATS, VERSION
from pipeline.regions.rows import check_first_images
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

    @classmethod
    def open(
        cls,
        paths: Sequence[AnyPath],
        format: str,
        *,
        class_names: list[str] | None = None,
        feature_size: int | None = None,
        partition_size: int = 1_000,
    ) -> Self:
        """Reads what holds for all regions of some sources, and checks their first images.

        Raises:
            InputError: the sources are not of this format, or they are damaged.
        """
        reader = FORMATS[format]
        paths = list(paths)
        info = reader.inspect(paths, class_names, feature_size)
        files = tuple(reader.files(paths))
        check_first_images(reader, files, info)
        return cls(files, format, info, partition_size)

    def inputs(self) -> tuple[AnyPath, ...]:
        """See `pipeline.execution.executor.Stage`."""
        return self.files

    def fingerprint(self) -> dict[str, object]:
        """See `pipeline.execution.executor.Stage`."""
        return {
            "inputs": [fingerprint(path) for path in self.files],
            "format": self.format,
            "info": self.info.to_metadata(),
            "partition_size": self.partition_size,
            "formats_version": VERSION,
        }

    def partitions(self) -> Iterator[object]:
        """See `pipeline.regions.formats.RegionFormat.partitions`."""
        return FORMATS[self.format].partitions(list(self.files), self.partition_size)

    def total(self) -> int | None:
        """See `pipeline.execution.executor.Stage`."""
        return sum(1 for _ in self.partitions())

    def estimated_bytes(self) -> int:
        """Returns the size of the sources, which is the most that regions take."""
        return sum(path.stat().st_size for path in self.files)

    def worker(self) -> Work[object]:
        """See `pipeline.execution.executor.Stage`."""
        return self._convert

    def _convert(self, partition: object, part: Part) -> None:
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
        """Does nothing: there is nothing to merge."""
