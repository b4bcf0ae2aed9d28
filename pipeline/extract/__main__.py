"""Pictures to regions: ``python -m pipeline.extract IMAGES... --out data/regions``."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import typer

from parsers.command import InputError, run, say
from pipeline import detectors
from pipeline.detectors import Detector
from pipeline.execution.engines import Engine
from pipeline.execution.executor import print_report, run_stage
from pipeline.execution.options import EngineKind, MaxRejects, Overwrite, RayAddress
from pipeline.extract import images
from pipeline.extract.stage import DEFAULT, ExtractStage, regions_info
from pipeline.files import expand, is_inside, location
from shards.pictures import ImageIds
from shards.schema import MAX_REGIONS
from shards.storage.files import AnyPath

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
