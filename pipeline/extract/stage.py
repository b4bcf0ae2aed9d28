"""The stage that finds the regions of pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from parsers.command import InputError
from pipeline import detectors
from pipeline.detectors import Detections, Detector
from pipeline.duplicates.pictures import HASHES, hash_picture, write_hashes
from pipeline.execution.engines import Work
from pipeline.execution.parts import Part, Reject
from pipeline.extract import images
from pipeline.extract.given_boxes import read_boxes
from pipeline.extract.images import ImageSource, Opened, PictureInput
from pipeline.extract.prefetch import ahead, by_shape
from pipeline.extract.preview import draw_regions
from pipeline.files import fingerprint
from pipeline.regions.rows import make_row, most_likely
from shards.manifest import Classes
from shards.regions.table import RegionsInfo, RegionsRow, write_regions
from shards.schema import Array, check_boxes, key_of
from shards.storage.files import AnyPath

DECODERS = 4
"""how many threads read and decode pictures ahead of the network"""
DESCRIBERS = 1
"""how many threads turn what the network found into rows"""
HELD_BYTES = 1 << 27
"""bytes that the waiting pictures of a batch may take once decoded; they wait undecoded for others of their shape"""


@dataclass(frozen=True)
class PicturePartition:
    """A run of pictures of the inputs, and of what cannot be one, each in order."""

    sources: list[ImageSource]
    rejects: list[Reject]
    previews: int
    """how many pictures, from the first one on, are drawn with their regions"""


@dataclass(frozen=True)
class ExtractStage:
    """Finds and describes the regions of every picture."""

    sources: tuple[PictureInput, ...]
    detector: str
    options: tuple[tuple[str, object], ...]
    """options of the detector"""
    detector_version: str
    info: RegionsInfo
    top_k: int | None
    """how many classes and attributes of each box are kept; None: all"""
    boxes: AnyPath | None
    """boxes to describe; None: the detector finds boxes"""
    batch_size: int
    partition_size: int
    previews: int
    """how many pictures, from the first one on, are drawn with their regions"""
    name: str = "extract"

    def inputs(self) -> list[AnyPath]:
        """See `pipeline.execution.executor.Stage`."""
        return [*(source.path for source in self.sources), *([] if self.boxes is None else [self.boxes])]

    def fingerprint(self) -> dict[str, object]:
        """See `pipeline.execution.executor.Stage`."""
        return {
            "inputs": [source.fingerprint() for source in self.sources],
            "detector": {"name": self.detector, "version": self.detector_version, **dict(self.options)},
            "boxes": None if self.boxes is None else fingerprint(self.boxes),
            "top_k": self.top_k,
            "info": self.info.to_metadata(),
            "batch_size": self.batch_size,
            "partition_size": self.partition_size,
            "preview": self.previews,
        }

    def total(self) -> int | None:
        """Returns the number of partitions, or None if pictures lie in tars."""
        counts = [source.count() for source in self.sources]
        return None if None in counts else -(-sum(filter(None, counts)) // self.partition_size)

    def estimated_bytes(self) -> int:
        """Returns the size of 36 regions for each picture. A tar is taken to hold a picture in every 50 kB."""
        classes = self.info.classes.count or 0
        row = 36 * (2 * self.info.feature_size + 4 * (classes + len(self.info.attribute_names or ())))
        counts = [source.count() for source in self.sources]
        return sum(
            row * (count if count is not None else source.bytes() // 50_000)
            for source, count in zip(self.sources, counts, strict=True)
        )

    def partitions(self) -> Iterator[PicturePartition]:
        """Yields runs of ``partition_size`` pictures over all inputs."""
        given = None if self.boxes is None else read_boxes(self.boxes)
        seen: set[bytes] = set()
        sources: list[ImageSource] = []
        rejects: list[Reject] = []
        previews = self.previews
        for found in (found for source in self.sources for found in source.sources()):
            if isinstance(found, Reject):
                rejects.append(found)
            elif (digest := hashlib.blake2b(found.image_id.encode(), digest_size=16).digest()) in seen:
                rejects.append(found.reject("its image id occurred before"))
            elif given is not None and found.image_id not in given:
                rejects.append(found.reject("no boxes are given for it"))
            else:
                seen.add(digest)
                sources.append(found if given is None else replace(found, boxes=given[found.image_id]))
            if len(sources) + len(rejects) == self.partition_size:
                yield PicturePartition(sources, rejects, previews)
                previews = max(0, previews - len(sources))
                sources, rejects = [], []
        if sources or rejects:
            yield PicturePartition(sources, rejects, previews)

    def worker(self) -> Work[PicturePartition]:
        """Builds the detector; see `pipeline.execution.executor.Stage`."""
        return partial(self.extract, detectors.get(self.detector, **dict(self.options)))

    def extract(self, detector: Detector, partition: PicturePartition, part: Part) -> None:
        """Makes a part in three steps that overlap: decode pictures, run the network, turn what it found into rows.

        The network runs in this thread. Other threads decode the next pictures and make the rows of the last ones.
        """
        rows: dict[int, RegionsRow | Reject] = {}
        hashes: dict[str, bytes | None] = {}

        def in_batches() -> Iterator[tuple[int, Opened, bool]]:
            """Yields the number of each picture, the picture, and whether it is the last one of its batch."""
            opened = ahead(images.open_source, partition.sources, threads=DECODERS)
            for batch in by_shape(self._usable(partition, opened, rows), self.batch_size, HELD_BYTES):
                yield from ((*picture, place == len(batch)) for place, picture in enumerate(batch, 1))

        def decode(item: tuple[int, Opened, bool]) -> tuple[int, Array | Reject, bool]:
            number, opened, last = item
            return number, images.decode_picture(partition.sources[number], opened), last

        def found() -> Iterator[tuple[int, Array, Detections]]:
            batch: list[tuple[int, Array]] = []
            for number, pixels, last in ahead(decode, in_batches(), threads=DECODERS):
                if isinstance(pixels, Reject):
                    rows[number] = pixels
                else:
                    batch.append((number, pixels))
                if last and batch:
                    sources = [partition.sources[number] for number, _ in batch]
                    detections = self._detect(detector, sources, [pixels for _, pixels in batch])
                    yield from ((*item, found) for item, found in zip(batch, detections, strict=True))
                    batch = []

        def describe(item: tuple[int, Array, Detections]) -> tuple[int, Array, RegionsRow | Reject]:
            number, pixels, detections = item
            hashes[partition.sources[number].image_id] = hash_picture(pixels)
            return number, pixels, to_row(partition.sources[number], pixels, detections, self.info, self.top_k)

        for number, pixels, row in ahead(describe, found(), threads=DESCRIBERS):
            rows[number] = row
            part.advance(1)
            if number < partition.previews and isinstance(row, RegionsRow):
                name = f"{part.number:05d}-{number:04d}-{key_of(row.image_id)[-100:]}.jpg"
                with part.open(f"preview/{name}") as stream:
                    draw_regions(pixels, row, self.info).save(stream, "JPEG", quality=85)
        self._write([rows[number] for number in range(len(partition.sources))], hashes, partition.rejects, part)

    def _detect(self, detector: Detector, sources: list[ImageSource], pixels: list[Array]) -> list[Detections]:
        import torch  # imported late, because it takes seconds and --help should answer at once

        given = [source.boxes for source in sources if source.boxes is not None]
        try:
            return detector.detect(pixels, given or None)
        except torch.OutOfMemoryError as error:
            height, width, _ = pixels[0].shape
            raise InputError(
                f"the GPU has too little memory for pictures of {width} x {height}; --precision bf16 needs less, and "
                "so does a smaller --batch-size where the detector takes several at once"
            ) from error

    def _usable(
        self, partition: PicturePartition, opened: Iterator[Opened | Reject], rows: dict[int, RegionsRow | Reject]
    ) -> Iterator[tuple[int, Opened]]:
        """Yields the pictures that can be described. What is wrong with the others goes into ``rows``."""
        for number, (source, picture) in enumerate(zip(partition.sources, opened, strict=True)):
            if isinstance(picture, Reject):
                rows[number] = picture
                continue
            if source.boxes is not None:
                try:
                    height, width, _ = picture.shape
                    _check_given(source.boxes, width, height)
                except ValueError as error:
                    rows[number] = source.reject(f"given boxes: {error}")
                    continue
            yield number, picture

    def _write(
        self, rows: list[RegionsRow | Reject], hashes: dict[str, bytes | None], rejects: list[Reject], part: Part
    ) -> None:
        good = [row for row in rows if isinstance(row, RegionsRow)]
        part.rejects.extend(rejects + [row for row in rows if isinstance(row, Reject)])
        part.statistics["rows"] += len(rows) + len(rejects)
        part.statistics["images"] += len(good)
        part.statistics["boxes"] += sum(len(row.regions.boxes) for row in good)
        with part.open(f"{part.name}.parquet") as stream:
            write_regions(stream, good, self.info)
        with part.open(f"{HASHES}/{part.name}.parquet") as stream:
            ids = [row.image_id for row in good]
            write_hashes(stream, ids, [hashes[image_id] for image_id in ids])

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Does nothing: there is nothing to merge."""


def _check_given(boxes: Array, width: int, height: int) -> None:
    """Checks given boxes.

    Raises:
        ValueError: they cannot be described, for the reason that the message gives.
    """
    check_boxes(boxes, width, height)
    if (boxes[:, :2] >= (width, height)).any() or (boxes[:, 2:] <= 0).any():  # boxes may lie outside by one pixel
        raise ValueError(f"a box that holds nothing of the {width} x {height} image")


def to_row(
    source: ImageSource, pixels: Array, found: Detections, info: RegionsInfo, top_k: int | None
) -> RegionsRow | Reject:
    """Returns what was found in a picture as a row of the table, or why it cannot be one."""
    height, width, _ = pixels.shape
    try:
        row = make_row(source.image_id, width, height, found.boxes, found.features, found.class_probs, info)
    except ValueError as error:
        return source.reject(str(error))
    ids, probabilities = row.regions.class_ids, row.regions.class_probs
    assert ids is not None
    assert probabilities is not None
    regions = replace(row.regions, class_ids=ids[:, :top_k], class_probs=probabilities[:, :top_k])
    if found.attribute_probs is None:
        return replace(row, regions=regions)
    attributes = most_likely(found.attribute_probs, top_k)
    return replace(row, regions=regions, attribute_ids=attributes[0], attribute_probs=attributes[1])


def regions_info(detector: Detector, top_k: int | None) -> RegionsInfo:
    """Returns what holds for all regions of a detector."""
    count = len(detector.class_names)
    kind: Literal["distribution", "top-k", "argmax"] = "distribution"
    if top_k is not None and top_k < count:
        kind = "argmax" if top_k == 1 else "top-k"
    classes = Classes(kind=kind, count=count, background=detector.background, names=list(detector.class_names))
    return RegionsInfo(detector.feature_size, classes, detector.attribute_names or None)
