"""Pictures to regions: ``python -m pipeline.extract IMAGES... --out data/regions``."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import typer

from pipeline import detectors, images
from pipeline.detectors import Detections, Detector
from pipeline.engines import Engine
from pipeline.executor import print_report, run_stage
from pipeline.files import expand, is_inside, location
from pipeline.given_boxes import read_boxes
from pipeline.images import ImageInput, ImageSource, Opened, fingerprint_of
from pipeline.options import EngineKind, MaxRejects, Overwrite, RayAddress
from pipeline.parts import Part, Reject
from pipeline.prefetch import ahead, by_shape
from pipeline.preview import draw_regions
from pipeline.region_formats.rows import make_row, most_likely
from pipeline.tables import regions_table, write_table
from shards.console import run, say
from shards.errors import InputError
from shards.files import AnyPath
from shards.pictures import ImageIds
from shards.regions import RegionsInfo, RegionsRow
from shards.schema import MAX_REGIONS, Array, Classes, check_boxes, key_of

DEFAULT = "vg-bottom-up"
DECODERS = 4
"""Threads that read and decode pictures ahead of the network."""
DESCRIBERS = 1
"""Threads that make rows of what the network found."""
HELD_BYTES = 1 << 27
"""Of the pixels of pictures that wait for others of their shape; they wait undecoded."""


@dataclass(frozen=True)
class Pictures:
    """A partition: pictures of the inputs and what cannot be one, each in order."""

    sources: list[ImageSource]
    rejects: list[Reject]
    previews: int
    """The first so many pictures are drawn with their regions."""


@dataclass(frozen=True)
class ExtractStage:
    """Finds and describes the regions of every picture."""

    inputs: tuple[ImageInput, ...]
    detector: str
    options: tuple[tuple[str, Any], ...]
    """of the detector"""
    detector_version: str
    info: RegionsInfo
    top_k: int | None
    """Classes and attributes that are kept of each box; None: all."""
    boxes: AnyPath | None
    batch_size: int
    partition_size: int
    previews: int
    name: str = "extract"

    def fingerprint(self) -> dict[str, Any]:
        """See `pipeline.executor.Stage`."""
        return {
            "inputs": [source.fingerprint() for source in self.inputs],
            "detector": {"name": self.detector, "version": self.detector_version, **dict(self.options)},
            "boxes": None if self.boxes is None else fingerprint_of(self.boxes),
            "top_k": self.top_k,
            "info": self.info.to_metadata(),
            "batch_size": self.batch_size,
            "partition_size": self.partition_size,
            "preview": self.previews,
        }

    def total(self) -> int | None:
        """Not known where pictures lie in tars."""
        counts = [source.count() for source in self.inputs]
        return None if None in counts else -(-sum(filter(None, counts)) // self.partition_size)

    def estimated_bytes(self) -> int:
        """Of as many regions as are usual; in tars, for a picture in every 50 kB."""
        classes = self.info.classes.count or 0
        row = 36 * (2 * self.info.feature_size + 4 * (classes + len(self.info.attribute_names or ())))
        counts = [source.count() for source in self.inputs]
        return sum(
            row * (count if count is not None else source.bytes() // 50_000)
            for source, count in zip(self.inputs, counts, strict=True)
        )

    def partitions(self) -> Iterator[Pictures]:
        """Runs of ``partition_size`` pictures over all inputs."""
        given = None if self.boxes is None else read_boxes(self.boxes)
        seen: set[bytes] = set()
        sources: list[ImageSource] = []
        rejects: list[Reject] = []
        previews = self.previews
        for found in (found for source in self.inputs for found in source.sources()):
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
                yield Pictures(sources, rejects, previews)
                previews = max(0, previews - len(sources))
                sources, rejects = [], []
        if sources or rejects:
            yield Pictures(sources, rejects, previews)

    def worker(self) -> Callable[[Pictures, Part], None]:
        """Builds the detector; see `pipeline.executor.Stage`."""
        return partial(self.extract, detectors.get(self.detector, **dict(self.options)))

    def extract(self, detector: Detector, partition: Pictures, part: Part) -> None:
        """Makes a part: this thread waits for the network, others decode pictures before it and sort classes after."""
        rows: dict[int, RegionsRow | Reject] = {}

        def in_batches() -> Iterator[tuple[int, Opened, bool]]:
            """Each with whether it is the last of its batch."""
            opened = ahead(images.open_source, partition.sources, threads=DECODERS)
            for batch in by_shape(self._usable(partition, opened, rows), self.batch_size, HELD_BYTES):
                yield from ((*picture, place == len(batch)) for place, picture in enumerate(batch, 1))

        def decode(item: tuple[int, Opened, bool]) -> tuple[int, Array | Reject, bool]:
            number, opened, last = item
            return number, images.decode(partition.sources[number], opened), last

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
            return number, pixels, to_row(partition.sources[number], pixels, detections, self.info, self.top_k)

        for number, pixels, row in ahead(describe, found(), threads=DESCRIBERS):
            rows[number] = row
            if number < partition.previews and isinstance(row, RegionsRow):
                name = f"{part.number:05d}-{number:04d}-{key_of(row.image_id)[-100:]}.jpg"
                with part.open(f"preview/{name}") as stream:
                    draw_regions(pixels, row, self.info).save(stream, "JPEG", quality=85)
        self._write([rows[number] for number in range(len(partition.sources))], partition.rejects, part)

    def _detect(self, detector: Detector, sources: list[ImageSource], pixels: list[Array]) -> list[Detections]:
        import torch  # late: it takes seconds, and --help should answer at once

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
        self, partition: Pictures, opened: Iterator[Opened | Reject], rows: dict[int, RegionsRow | Reject]
    ) -> Iterator[tuple[int, Opened]]:
        """The pictures that are worth the network's while; what is wrong with the others goes to ``rows``."""
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

    def _write(self, rows: list[RegionsRow | Reject], rejects: list[Reject], part: Part) -> None:
        good = [row for row in rows if isinstance(row, RegionsRow)]
        part.rejects.extend(rejects + [row for row in rows if isinstance(row, Reject)])
        part.statistics["rows"] += len(rows) + len(rejects)
        part.statistics["images"] += len(good)
        part.statistics["boxes"] += sum(len(row.regions.boxes) for row in good)
        with part.open(f"{part.name}.parquet") as stream:
            write_table(stream, "regions", regions_table(good), self.info.to_metadata())

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Nothing to merge."""


def _check_given(boxes: Array, width: int, height: int) -> None:
    """Raises ValueError, with the reason, if these boxes cannot be described."""
    check_boxes(boxes, width, height)
    if (boxes[:, :2] >= (width, height)).any() or (boxes[:, 2:] <= 0).any():  # in the pixel that they may be outside
        raise ValueError(f"a box that holds nothing of the {width} x {height} image")


def to_row(
    source: ImageSource, pixels: Array, found: Detections, info: RegionsInfo, top_k: int | None
) -> RegionsRow | Reject:
    """What was found in a picture as a row of the table, or why it cannot be one."""
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
    """What holds for all regions of a detector."""
    count = len(detector.class_names)
    kind: Literal["distribution", "top-k", "argmax"] = "distribution"
    if top_k is not None and top_k < count:
        kind = "argmax" if top_k == 1 else "top-k"
    classes = Classes(kind=kind, count=count, background=detector.background, names=list(detector.class_names))
    return RegionsInfo(detector.feature_size, classes, detector.attribute_names or None)


app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m pipeline.extract val2017/ --out data/regions --preview 20")
def main(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Folders, pictures, patterns, COCO files with a list of images, or tars of img2dataset; "
            "here or elsewhere.",
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder for the regions; one for each run.")],
    detector: Annotated[str, typer.Option(help="Which detector finds the regions; see docs/regions.md.")] = DEFAULT,
    weights: Annotated[
        str | None, typer.Option(help="Its weights: a file or a name that it knows; default its own.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings of published features, where the detector has such.")
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(help="Folder with the names of classes and attributes, where the detector takes one.")
    ] = None,
    min_boxes: Annotated[
        int | None, typer.Option(min=0, max=MAX_REGIONS, help="Regions of a picture, at least.")
    ] = None,
    max_boxes: Annotated[
        int | None, typer.Option(min=1, max=MAX_REGIONS, help="Regions of a picture, at most.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of random weights (--weights random), which only tests want.")
    ] = None,
    boxes: Annotated[
        str | None, typer.Option(help="Describe these boxes instead of finding some: regions Parquet or JSON.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Keep the likeliest classes and attributes only; default all.")
    ] = None,
    image_ids: Annotated[
        ImageIds, typer.Option(help="What a file is called: its stem (auto: COCO's number), or its path in the folder.")
    ] = "auto",
    root: Annotated[str | None, typer.Option(help="Folder of a COCO file's pictures; default its own.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: cuda where there is one.")] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16"] | None, typer.Option(help="Of the network; bf16 is faster where the hardware has it.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures of one shape in a batch, at most; vg-bottom-up takes them singly.")
    ] = 8,
    preview: Annotated[int, typer.Option(min=0, help="Draw the regions of the first so many pictures.")] = 0,
    engine: EngineKind = "local",
    ray_address: RayAddress = None,
    gpus: Annotated[float, typer.Option(min=0, help="With Ray: GPUs of a worker; 0.5 lets two share one.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; default one for each core, one with cuda.")
    ] = None,
    partition_size: Annotated[int, typer.Option(min=1, help="Pictures in a part.")] = 256,
    max_rejects: MaxRejects = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Find the regions of pictures and describe them with features and classes (Parquet)."""
    import torch

    if engine == "local" and gpus:
        raise typer.BadParameter("goes with --engine ray; --device chooses for local workers", param_hint="--gpus")
    if engine == "ray" and device == "cuda" and not gpus:
        raise typer.BadParameter("with --engine ray, --device cuda needs it", param_hint="--gpus")
    if boxes is not None and (min_boxes is not None or max_boxes is not None):
        raise typer.BadParameter("does not go with --min-boxes or --max-boxes: all are described", param_hint="--boxes")
    cuda = device == "cuda" or (device == "auto" and (gpus > 0 if engine == "ray" else torch.cuda.is_available()))
    if cuda and not (engine == "ray" and ray_address) and not torch.cuda.is_available():
        raise InputError("this torch sees no GPU; --device cpu does without")
    folder = location(out)
    given = {
        "weights": weights,
        "preset": preset,
        "vocabulary": vocabulary,
        "min_boxes": min_boxes,
        "max_boxes": max_boxes,
        "seed": seed,
        "precision": precision,
    }
    options = {name: value for name, value in given.items() if value is not None}
    built = _build(detector, options)
    boxes_path = None if boxes is None else expand([boxes])[0]
    inputs = []
    for path in expand(sources):
        found, what = images.recognise(path, image_ids, None if root is None else location(root))
        if found.kind != "picture":
            say(f"{path}: {what}")
        inputs.append(found)
    if single := sum(found.kind == "picture" for found in inputs):
        say(f"{single:,} files named as pictures")
    folders: list[AnyPath] = [found.path for found in inputs if found.kind == "folder"]
    if boxes_path is not None and boxes_path.is_dir():
        folders.append(boxes_path)
    for whole in folders:  # what is written there would be a change of the input, which the next run refuses
        if is_inside(folder, whole):
            raise InputError(f"{out} lies in {whole}, and inputs must not change; name another --out folder")
    stage = ExtractStage(
        inputs=tuple(inputs),
        detector=detector,
        options=tuple((options | ({"device": "cuda"} if cuda else {})).items()),
        detector_version=built.version,
        info=regions_info(built, top_k),
        top_k=top_k,
        boxes=boxes_path,
        batch_size=batch_size,
        partition_size=partition_size,
        previews=preview,
    )
    del built  # the workers build their own
    count = workers or (1 if cuda else os.cpu_count() or 1)
    report = run_stage(
        stage, folder, Engine(engine, count, ray_address, gpus), max_rejects=max_rejects, overwrite=overwrite
    )
    print_report(f"Regions of {stage.info.feature_size} features by {detector}", folder, report)


def _build(name: str, options: dict[str, Any]) -> Detector:
    try:
        return detectors.get(name, **options)
    except TypeError as error:
        raise InputError(f"the detector {name!r} does not take these options: {error}") from error
    except (ValueError, OSError, ImportError) as error:
        raise InputError(str(error)) from error


if __name__ == "__main__":
    run(app)
