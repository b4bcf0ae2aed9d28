"""The command ``python -m pipeline.extract IMAGES... --out data/regions``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from parsers.command import InputError, run, say
from pipeline import detectors
from pipeline.detectors.choice import choose_detector
from pipeline.execution.engines import Engine
from pipeline.execution.executor import print_report, run_stage
from pipeline.execution.options import EngineKind, MaxRejects, Overwrite, RayAddress
from pipeline.extract import images
from pipeline.extract.images import PictureInput
from pipeline.extract.stage import ExtractStage, regions_info
from pipeline.files import expand, is_inside, location
from shards.pictures import ImageIds
from shards.regions.detector import DetectorRecord
from shards.regions.table import RegionsInfo
from shards.schema import MAX_REGIONS
from shards.storage.files import AnyPath

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil extract val2017/ --out data/regions --preview 20")
def main(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Folders, pictures, patterns, COCO files with a list of images, or tars of img2dataset, "
            "on this machine or on a store.",
        ),
    ],
    out: Annotated[str, typer.Option(help="The folder for the regions. Each run needs its own.")],
    detector: Annotated[
        str | None,
        typer.Option(
            help="The detector that finds the regions; see docs/regions.md. Without it: that of --model; or "
            "vg-bottom-up if there is a GPU, or its --weights, --preset or --class-names are given; or else a small "
            "one of torchvision's."
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="The model that will see the regions: its detector and preset are taken.", exists=True),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="The detector's weights: a file, or a name that it knows. Without it the detector takes its own."
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Detect as a published set of features did, if the detector has such presets.")
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(help="A folder with files of the names of classes and attributes, if the detector takes one."),
    ] = None,
    min_boxes: Annotated[
        int | None, typer.Option(min=0, max=MAX_REGIONS, help="The fewest regions of a picture.")
    ] = None,
    max_boxes: Annotated[
        int | None, typer.Option(min=1, max=MAX_REGIONS, help="The most regions of a picture.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The seed of random weights (--weights random), which only tests need.")
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(help="Describe these boxes instead of finding boxes; a Parquet table of regions, or JSON."),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Keep only the k likeliest classes and attributes. Without it all are kept."),
    ] = None,
    id_rule: Annotated[
        ImageIds,
        typer.Option(help="The image id of a file: its stem (auto: as COCO's number), or its path in the folder."),
    ] = "auto",
    pictures: Annotated[
        str | None,
        typer.Option("--images", help="The folder of a COCO file's pictures. Without it they lie beside the file."),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Where the network computes. With auto it is cuda if there is a GPU."),
    ] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        typer.Option(help="The precision of the network. bf16 is faster if the hardware supports it."),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="The most pictures in a batch. All have one shape. vg-bottom-up takes one at a time."),
    ] = 8,
    preview: Annotated[
        int, typer.Option(min=0, help="Draw the regions of this many pictures, from the first one on.")
    ] = 0,
    engine: EngineKind = "local",
    ray_address: RayAddress = None,
    gpus: Annotated[
        float, typer.Option(min=0, help="With Ray: the GPUs of a worker; with 0.5 two workers share one.")
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="How many parts are made at a time. Without it one for each core, and one with cuda."),
    ] = None,
    partition_size: Annotated[int, typer.Option(min=1, help="How many pictures a part holds.")] = 256,
    max_rejects: MaxRejects = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Find the regions of pictures and describe them with features and classes (Parquet)."""
    _check_usage(engine, device, gpus, boxes, min_boxes, max_boxes)
    cuda = _use_cuda(engine, device, gpus, on_other_machines=ray_address is not None)
    chosen = {
        # The models that are trained on these regions record the weights, and are used from other folders.
        "weights": str(Path(weights).resolve()) if weights is not None and Path(weights).exists() else weights,
        "preset": preset,
        "class_names": class_names,
        "min_boxes": min_boxes,
        "max_boxes": max_boxes,
        "seed": seed,
        "precision": precision,
        "device": "cuda" if cuda else None,
    }
    options: dict[str, object] = {name: value for name, value in chosen.items() if value is not None}
    if detector is None:
        of_visual_genome = model is None and any(value is not None for value in (weights, preset, class_names))
        found = choose_detector(None if model is None else _read_detector(model), cuda=cuda or of_visual_genome)
        say(f"detector: {found.name}{'' if of_visual_genome else f', because {found.reason}'}")
        detector, options = found.name, {**found.options, **options}
    folder = location(out)
    boxes_path = None if boxes is None else expand([boxes])[0]
    inputs = _find_pictures(sources, id_rule, pictures)
    _refuse_inside_inputs(folder, [found.path for found in inputs if found.kind == "folder"], boxes_path)
    version, info = _describe(detector, options, top_k)  # this may fetch weights, so all else is checked before
    stage = ExtractStage(
        sources=inputs,
        detector=detector,
        options=tuple(options.items()),
        detector_version=version,
        info=info,
        top_k=top_k,
        boxes=boxes_path,
        batch_size=batch_size,
        partition_size=partition_size,
        previews=preview,
    )
    at_a_time = workers or (1 if cuda else os.cpu_count() or 1)
    report = run_stage(
        stage, folder, Engine(engine, at_a_time, ray_address, gpus), max_rejects=max_rejects, overwrite=overwrite
    )
    print_report(f"Regions with features of size {info.feature_size} by {detector}", folder, report)


def _check_usage(
    engine: str, device: str, gpus: float, boxes: str | None, min_boxes: int | None, max_boxes: int | None
) -> None:
    """Refuses options that do not go together."""
    if engine == "local" and gpus:
        raise typer.BadParameter("goes with --engine ray; --device chooses for local workers", param_hint="--gpus")
    if engine == "ray" and device == "cuda" and not gpus:
        raise typer.BadParameter("with --engine ray, --device cuda needs it", param_hint="--gpus")
    if boxes is not None and (min_boxes is not None or max_boxes is not None):
        raise typer.BadParameter("does not go with --min-boxes or --max-boxes: all are described", param_hint="--boxes")


def _use_cuda(engine: str, device: str, gpus: float, *, on_other_machines: bool) -> bool:
    """Returns whether the workers compute on GPUs.

    Raises:
        InputError: they are asked to, but this machine has no GPU.
    """
    import torch  # imported late, because it takes seconds and --help should answer at once

    here = torch.cuda.is_available()
    cuda = device == "cuda" or (device == "auto" and (gpus > 0 if engine == "ray" else here))
    if cuda and not here and not (engine == "ray" and on_other_machines):
        raise InputError("the installed PyTorch sees no GPU; --device cpu does without")
    return cuda


def _read_detector(model: Path) -> DetectorRecord:
    """Returns the detector that a model records.

    Raises:
        InputError: it records none.
    """
    found = DetectorRecord.load(model)
    if found is None:
        raise InputError(f"{model}: does not record the detector of its regions; name it with --detector")
    return found


def _describe(name: str, options: Mapping[str, object], top_k: int | None) -> tuple[str, RegionsInfo]:
    """Builds the detector once, for its version and for what holds for all of its regions.

    Raises:
        InputError: it cannot be built with these options.
    """
    try:
        detector = detectors.get(name, **options)
    except TypeError as error:
        raise InputError(f"the detector {name!r} does not take these options: {error}") from error
    except (ValueError, OSError, ImportError) as error:
        raise InputError(str(error)) from error
    return detector.version, regions_info(detector, top_k)


def _find_pictures(sources: list[str], id_rule: ImageIds, pictures: str | None) -> tuple[PictureInput, ...]:
    """Returns what the sources are, and says so."""
    found = []
    for path in expand(sources):
        source, what = images.recognise_pictures(path, id_rule, None if pictures is None else location(pictures))
        if source.kind != "picture":
            say(f"{path}: {what}")
        found.append(source)
    if single := sum(source.kind == "picture" for source in found):
        say(f"single pictures: {single:,}")
    return tuple(found)


def _refuse_inside_inputs(out: AnyPath, folders: list[AnyPath], boxes: AnyPath | None) -> None:
    """Raises InputError if the output lies in an input: writing would change the input, which the next run refuses."""
    for folder in [*folders, *([boxes] if boxes is not None and boxes.is_dir() else [])]:
        if is_inside(out, folder):
            raise InputError(f"{out} lies in {folder}, and inputs must not change; name another --out folder")


if __name__ == "__main__":
    run(app)
