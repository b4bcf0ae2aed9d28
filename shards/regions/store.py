"""Reads the regions of single images, by image id."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from parsers.command import InputError
from shards.regions.table import REGIONS, RegionsInfo, RegionsRow, open_regions, read_image_ids, read_rows
from shards.stage_folder import parts_of
from shards.storage.files import AnyPath
from shards.storage.parquet import parquet_file


class RegionStore:
    """The regions of all images of some folders, by image id.

    Memory holds the ids and the row groups that were read last. Reading an image decodes one row group. A store can be
    pickled for worker processes.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        classes: bool = False,
        attributes: bool = False,
        cache_bytes: int = 1 << 28,
    ) -> None:
        """Reads the ids.

        Args:
            folders: folders that `pipeline.regions` or `pipeline.extract` wrote.
            classes: read the classes of regions, too.
            attributes: read the attributes of regions, too.
            cache_bytes: keep about this many bytes of decoded row groups, in each process.

        Raises:
            InputError: a folder is unfinished, two folders hold the same image, or their features differ in size.
        """
        self.feature_size = 0
        wanted = {"class": classes, "attribute": attributes}
        more = [f"{kind}_{what}" for kind, is_wanted in wanted.items() if is_wanted for what in ("ids", "probs")]
        self._columns = [*REGIONS.names[:5], *more]
        self._paths: list[AnyPath] = []
        self._rows: dict[str, int] = {}
        self._groups: list[tuple[int, int]] = []
        starts = [0]
        for folder in folders:
            for path in parts_of(folder):
                size = RegionsInfo.from_file(path).feature_size
                if self.feature_size not in (0, size):
                    raise InputError(
                        f"{path}: has features of size {size}, the regions before it {self.feature_size}; "
                        "take regions of one detector"
                    )
                self.feature_size = size
                for row, image_id in enumerate(read_image_ids(path).to_pylist(), starts[-1]):
                    if image_id in self._rows:
                        raise InputError(f"{path}: image {image_id!r} has regions twice; give one of the folders")
                    self._rows[image_id] = row
                metadata = open_regions(path).metadata
                for group in range(metadata.num_row_groups):
                    self._groups.append((len(self._paths), group))
                    starts.append(starts[-1] + metadata.row_group(group).num_rows)
                self._paths.append(path)
        self._starts = np.array(starts)
        self._cache: OrderedDict[int, list[RegionsRow | ValueError]] = OrderedDict()
        self._cached, self._cache_bytes = 0, cache_bytes

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._rows

    def __getitem__(self, image_id: str) -> RegionsRow:
        """The regions of an image, with what was asked for.

        Raises:
            KeyError: no folder has the image.
            InputError: the row of the image is damaged.
        """
        number = self._rows[image_id]
        group = int(np.searchsorted(self._starts, number, "right")) - 1
        row = self._read(group)[number - int(self._starts[group])]
        if isinstance(row, ValueError):
            raise InputError(f"{self._paths[self._groups[group][0]]}: image {image_id!r}: {row}")
        return row

    def _read(self, group: int) -> list[RegionsRow | ValueError]:
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group]
        part, number = self._groups[group]
        try:
            table = parquet_file(self._paths[part]).read_row_group(number, self._columns, use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{self._paths[part]}: cannot be read: {error}; write it again") from error
        rows = list(read_rows(table, self.feature_size))
        self._cache[group] = rows
        self._cached += _bytes_of(rows)
        while self._cached > self._cache_bytes and len(self._cache) > 1:
            self._cached -= _bytes_of(self._cache.popitem(last=False)[1])
        return rows


def _bytes_of(rows: list[RegionsRow | ValueError]) -> int:
    return sum(row.regions.features.nbytes for row in rows if isinstance(row, RegionsRow))
