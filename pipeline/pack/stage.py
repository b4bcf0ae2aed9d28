"""The stage that packs graphs and regions into shards: it joins them, cuts partitions, and merges the parts."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from parsers.checksums import sha256_of
from parsers.command import InputError, pluralize, say
from pipeline.duplicates.captions import hash_texts
from pipeline.execution.parts import Part
from pipeline.files import fingerprint, is_local
from pipeline.graph_table import GRAPHS, GRAPHS_BY_VERSION, read_graphs
from pipeline.holdout import TRAIN, VAL, is_held_out
from pipeline.negative_table import NEGATIVES, read_negatives
from pipeline.pack.accounts import close_accounts, write_accounts
from pipeline.pack.image_ids import coco_number, count_matches, read_id_lists, read_id_map, with_coco_numbers
from pipeline.pack.join import Fate, Join, RegionsPart, join
from pipeline.pack.packing import Packer, PackPartition, parts_with_shard, read_shard_of_part
from pipeline.pack.repetitions import PackedRows, report_repetitions
from pipeline.row_store import RowStore
from shards import index
from shards.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    WITH_NEGATIVES,
    Classes,
    DetectorInfo,
    Manifest,
    ParserInfo,
    ShardInfo,
    TokenizerInfo,
    Totals,
)
from shards.regions.detector import DetectorRecord
from shards.regions.table import RegionsInfo
from shards.schema import Array, image_id_of_key
from shards.stage_folder import parts_of, read_part_metadata
from shards.storage.files import AnyPath, read_text_lines, write_atomic
from shards.vocabulary import VOCABULARY, load_tokenizer, read_vocabulary

WITHOUT_REGIONS, WITHOUT_CAPTIONS = "images-without-regions.txt", "images-without-captions.txt"


@dataclass(frozen=True)
class PackStage:
    """Joins captions and regions by image id and writes them as shards.

    Regions are streamed once. Each partition becomes one shard of ``train`` and, with ``holdout``, one of ``val``.
    """

    graphs: tuple[AnyPath, ...]
    """folders of `pipeline.parse`"""
    regions: tuple[AnyPath, ...]
    """folders of `pipeline.regions` or `pipeline.extract`"""
    tokenizer: Path
    """the vocabulary"""
    out: AnyPath
    holdout: float
    """the share of images that are held out in ``val``"""
    shard_size: int
    """images in a shard"""
    class_top_k: int | None
    """how many classes of a region are kept; None: all"""
    exclude_ids: tuple[AnyPath, ...] = ()
    """lists of images that must not be packed"""
    id_map: AnyPath | None = None
    """a table that maps ids of the regions to ids of the captions"""
    coco_ids: bool = False
    """whether COCO's names of pictures are read as its numbers, in captions and regions"""
    negatives: tuple[AnyPath, ...] = ()
    """folders of `pipeline.negatives`, made of the same graphs"""
    allow_unmatched: bool = False
    """whether a list of ``exclude_ids`` may name no image at all"""
    name: str = "pack"

    def inputs(self) -> list[AnyPath]:
        """See `pipeline.execution.executor.Stage`."""
        maps = [] if self.id_map is None else [self.id_map]
        return [*self.graphs, *self.regions, self.tokenizer, *self.exclude_ids, *maps, *self.negatives]

    def fingerprint(self) -> dict[str, object]:
        """See `pipeline.execution.executor.Stage`. What does not go together is refused before anything is written."""
        _ = self.info, self.parser
        negatives = [fingerprint(part) for folder in self.negatives for part in parts_of(folder)]
        return {
            "graphs": [fingerprint(part) for folder in self.graphs for part in parts_of(folder)],
            "regions": [fingerprint(part) for folder in self.regions for part in parts_of(folder)],
            "tokenizer": sha256_of(self.tokenizer),
            "held_out_share": self.holdout,
            "shard_size": self.shard_size,
            "top_k": self.class_top_k,
            "exclude_ids": hashlib.sha256("\n".join(self.excluded.to_pylist()).encode()).hexdigest(),
            "id_map": None if self.id_map is None else fingerprint(self.id_map),
            "coco_ids": self.coco_ids,
            "schema_version": WITH_NEGATIVES if self.negatives else SCHEMA_VERSION,
            **({"negatives": negatives} if self.negatives else {}),
        }

    def total(self) -> int | None:
        """Returns None: the number of partitions is not known before the join is planned."""
        return None

    def estimated_bytes(self) -> int:
        """Returns the size of the graphs, the regions and the false captions."""
        folders = (*self.graphs, *self.regions, *self.negatives)
        return sum(part.stat().st_size for folder in folders for part in parts_of(folder))

    @cached_property
    def excluded(self) -> pa.Array:
        """The image ids that must not be packed, sorted."""
        lists = read_id_lists(self.exclude_ids).values()
        return pa.array(sorted(with_coco_numbers(frozenset().union(*lists))), pa.large_string())

    @cached_property
    def info(self) -> RegionsInfo:
        """What holds for all regions.

        Raises:
            InputError: the folders differ in it.
        """
        found = {folder: RegionsInfo.from_file(parts_of(folder)[0]) for folder in self.regions}
        (first, info), *others = found.items()
        for folder, other in others:
            if other != info:
                raise InputError(
                    f"{first} and {folder} cannot be packed together: feature size {info.feature_size} and "
                    f"{other.feature_size}, classes {info.classes.kind} ({info.classes.count}) and "
                    f"{other.classes.kind} ({other.classes.count})"
                )
        return info

    @property
    def detector(self) -> DetectorInfo | None:
        """The detector of all regions; None if nobody knows it, or if there were several."""
        first, *others = (DetectorRecord.of_regions(folder).detector for folder in self.regions)
        return first if all(other == first for other in others) else None

    @cached_property
    def parser(self) -> ParserInfo:
        """The parser that made all graphs.

        Raises:
            InputError: they come from several parsers.
        """
        found = {}
        for folder in self.graphs:
            for part in parts_of(folder):
                metadata = read_part_metadata(part, "graphs_version", GRAPHS_BY_VERSION)
                found[ParserInfo(name=metadata["parser"], version=metadata["parser_version"])] = folder
        if len(found) != 1:
            parsers = ", ".join(f"{info.name} {info.version} in {folder}" for info, folder in found.items())
            raise InputError(f"the graphs to pack come from different parsers: {parsers or 'none'}")
        return next(iter(found))

    # ------------------------------------------------------------------------------------------------------- planning

    def partitions(self) -> Iterator[PackPartition]:
        """Yields runs of regions that hold ``shard_size`` images to pack."""
        with contextlib.ExitStack() as stack:
            # The file is as large as the graphs, so it lies beside the output if that is on a disk.
            scratch = str(self.out) if is_local(self.out) else stack.enter_context(tempfile.TemporaryDirectory())
            paths = Path(scratch) / "captions.arrow", Path(scratch) / "negatives.arrow"
            for path in paths:
                stack.callback(path.unlink, missing_ok=True)
            rename = coco_number if self.coco_ids else None
            captions = RowStore("captions", self.graphs, read_graphs, GRAPHS, paths[0], rename)
            negatives = RowStore("false captions", self.negatives, read_negatives, NEGATIVES, paths[1], rename)
            for part in self._plan(captions, negatives).parts:
                for partition in _cut_into_partitions(part, captions, self.shard_size):
                    yield _with_negatives(partition, negatives) if self.negatives else partition

    def _plan(self, captions: RowStore, negatives: RowStore) -> Join:
        """Joins captions and regions, and writes what is known of the images that are not packed."""
        held_out = partial(is_held_out, share=self.holdout)
        counts = _count_negatives(captions, negatives)
        plan = join(captions, self.regions, self.excluded, self._rename(), held_out, counts)
        self._check_matches(count_matches(read_id_lists(self.exclude_ids), captions.image_ids, plan.region_ids))
        for name, ids in ((WITHOUT_REGIONS, plan.without_regions), (WITHOUT_CAPTIONS, plan.without_captions)):
            write_atomic(self.out / name, "".join(f"{image_id}\n" for image_id in ids).encode())
        accounts = {"images": plan.images, "captions": plan.captions, "false captions": plan.negatives}
        write_accounts(self.out, accounts if self.negatives else {k: accounts[k] for k in ("images", "captions")})
        return plan

    def _rename(self) -> Callable[[str], str] | None:
        """Returns the function that says what the captions call an image of the regions; None: the same."""
        if self.id_map is None:
            return coco_number if self.coco_ids else None
        id_map = read_id_map(self.id_map)

        def rename(image_id: str) -> str:
            known = id_map.get(image_id, image_id)
            return coco_number(known) if self.coco_ids else known

        return rename

    def _check_matches(self, matches: Mapping[str, int]) -> None:
        """Says how many ids of each list name an image, and refuses a list of which none does."""
        for path, ids in read_id_lists(self.exclude_ids).items():
            counts = f"{matches[path]:,} of {pluralize(len(ids), 'id')} of {path} occur"
            say(f"{counts} among the images")
            if not matches[path] and not self.allow_unmatched:
                some = f", for example {min(ids)!r}," if ids else ""
                raise InputError(
                    f"{counts}: no image would be excluded by it. Its ids{some} must be those of the captions or "
                    "COCO's numbers or names of files; --allow-unmatched packs without"
                )

    def worker(self) -> Callable[[PackPartition, Part], None]:
        """Opens the tokenizer; see `pipeline.execution.executor.Stage`."""
        return Packer(load_tokenizer(self.tokenizer), self.info.feature_size, self.class_top_k).pack

    # -------------------------------------------------------------------------------------------------------- merging

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Writes each split's vocabulary, index and, last, manifest, and says what nearly repeats in them."""
        packed = {}
        for split in (TRAIN, VAL):
            if numbers := parts_with_shard(out, parts, split):
                packed[split] = self._write_split(out, split, numbers)
        close_accounts(out, statistics)
        if not any((out / split / MANIFEST).is_file() for split in (TRAIN, VAL)):
            raise InputError(
                "no image has both captions and regions: nothing to pack. Compare the image ids in "
                f"{out / WITHOUT_REGIONS} and {out / WITHOUT_CAPTIONS}{propose_coco_ids(out)}"
            )
        rename = coco_number if self.coco_ids else None
        rows = PackedRows(self.graphs, self.regions, rename, self._rename(), packed)
        statistics.update(report_repetitions(rows, out))

    def _write_split(self, out: AnyPath, split: str, parts: list[int]) -> Array:
        """Writes what a set has beside its tars; returns its images, ascending, as `hash_texts` numbers them."""
        folder = out / split
        infos: list[ShardInfo] = []
        images: list[Array] = []
        totals = Totals()

        def index_rows() -> Iterator[list[index.IndexRow]]:
            nonlocal totals
            for number in parts:
                shard = read_shard_of_part(out, number, split)
                infos.append(shard.info)
                images.append(hash_texts(pa.array([image_id_of_key(row.key) for row in shard.rows], pa.string())))
                totals += shard.totals
                yield shard.rows

        schema = index.SCHEMA_WITH_NEGATIVES if self.negatives else index.SCHEMA
        vocabulary = self.tokenizer.read_bytes()
        write_atomic(folder / VOCABULARY, vocabulary)
        index_sha256 = index.write_files(
            index_rows(), len(parts), lambda name, data: write_atomic(folder / name, data), schema
        )
        manifest = Manifest(
            schema_version=WITH_NEGATIVES if self.negatives else SCHEMA_VERSION,
            tokenizer=TokenizerInfo(
                sha256=hashlib.sha256(vocabulary).hexdigest(), size=len(read_vocabulary(self.tokenizer))
            ),
            parser=self.parser,
            feature_size=self.info.feature_size,
            classes=_describe_kept_classes(self.info.classes, self.class_top_k),
            detector=self.detector,
            totals=totals,
            index_sha256=index_sha256,
            shards=infos,
        )
        write_atomic(folder / MANIFEST, manifest.to_bytes())
        return np.sort(np.concatenate(images))


def propose_coco_ids(out: AnyPath) -> str:
    """Returns what to do if images of a pack would match by COCO's numbers, as the end of a sentence, or nothing."""
    captions, regions = (
        set(map(coco_number, read_text_lines(out / file))) for file in (WITHOUT_REGIONS, WITHOUT_CAPTIONS)
    )
    matching = len(captions & regions)
    return f"; with --coco-ids {pluralize(matching, 'image')} of them match" if matching else ""


def _count_negatives(captions: RowStore, negatives: RowStore) -> Array:
    """Counts the false captions of each image that has captions, int64 [images].

    Raises:
        InputError: there are false captions of an image without captions.
    """
    numbers = pc.index_in(negatives.image_ids, value_set=captions.image_ids)
    if numbers.null_count:
        strange = negatives.image_ids.filter(pc.is_null(numbers))[0].as_py()
        raise InputError(
            f"there are false captions of the image {strange!r}, but no captions: give --negatives that "
            "pipeline.negatives made of these --graphs"
        )
    counts = np.zeros(len(captions.image_ids), np.int64)
    counts[numbers.to_numpy()] = negatives.counts
    return counts


def _with_negatives(partition: PackPartition, store: RowStore) -> PackPartition:
    """Returns a partition with the false captions of its images."""
    ids = pa.array(partition.image_ids, pa.large_string())
    numbers = pc.fill_null(pc.index_in(ids, value_set=store.image_ids), -1).to_numpy().astype(np.int64)
    numbers[(partition.fates > Fate.HELD_OUT) | (partition.caption_counts == 0)] = -1
    counts = np.zeros(len(numbers), np.int64)
    counts[numbers >= 0] = store.counts[numbers[numbers >= 0]]
    return replace(partition, negative_counts=counts, negatives=store.take(numbers[numbers >= 0]))


def _cut_into_partitions(part: RegionsPart, captions: RowStore, shard_size: int) -> Iterator[PackPartition]:
    """Yields the partitions of a part of the regions, with the captions of their images."""
    packed = part.fates <= Fate.HELD_OUT
    for start, end in _cut(packed, shard_size):
        images = part.images[start:end][packed[start:end]]
        caption_counts = np.zeros(end - start, np.int64)
        caption_counts[packed[start:end]] = captions.counts[images]
        yield PackPartition(
            part.path,
            start,
            end,
            list(part.image_ids[start:end]),
            part.fates[start:end],
            caption_counts,
            captions.take(images),
        )


def _cut(packed: Array, shard_size: int) -> Sequence[tuple[int, int]]:
    """Cuts rows into runs that hold ``shard_size`` images to pack each; the last run may hold fewer.

    Say the rows to pack are [1, 0, 1, 1, 0, 1] and a shard holds 2 images. The counts of rows to pack, up to and with
    each row, are [1, 1, 2, 3, 3, 4]; the count first reaches 2 at row 2, so the runs are 0 to 3 and 3 to 6.

    Args:
        packed: bool [rows], whether the row's image is packed.
        shard_size: images in a shard.

    Returns:
        The first row of each run and the row after its last one.
    """
    counts = np.cumsum(packed)
    ends = np.searchsorted(counts, np.arange(shard_size, packed.sum(), shard_size)) + 1
    return list(pairwise([0, *ends.tolist(), len(packed)]))


def _describe_kept_classes(classes: Classes, k: int | None) -> Classes:
    """Returns what the classes are once only the k most likely of each region are kept."""
    if k is None or classes.kind != "distribution" or (classes.count or 0) <= k:
        return classes
    return classes.model_copy(update={"kind": "top-k"})
