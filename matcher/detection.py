"""The regions of photos: found by a detector, or given in files of any published format."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from finetune.inputs import RegionSource
from parsers.command import InputError, say
from pipeline import detectors
from pipeline.detectors import Detector
from pipeline.detectors.choice import DetectorChoice, choose_detector
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.execution.parts import Reject
from pipeline.extract.images import ImageSource, PictureInput, load_picture
from pipeline.extract.stage import ExtractStage, regions_info, to_row
from pipeline.files import expand, location
from pipeline.regions.formats import FORMATS, recognise_regions
from pipeline.regions.stage import RegionsStage
from shards.pictures import image_id_of_file
from shards.regions.detector import DetectorRecord
from shards.regions.store import RegionStore
from shards.regions.table import RegionsRow
from shards.stage_folder import REPORT

_PARTS = 100
"""Progress is shown, and a killed run goes on, by parts: about this many."""
_FEW = 32
"""For so few photos, starting another process takes longer than it saves."""


def build_detector(choice: DetectorChoice) -> Detector:
    """Builds a detector where it should run.

    Raises:
        InputError: it does not exist, does not take the options, or its weights cannot be had.
    """
    try:
        return detectors.get(choice.name, **choice.options, **_options_of_machine())
    except TypeError as error:
        raise InputError(f"the detector {choice.name!r} does not take these options: {error}") from error
    except (ValueError, OSError, ImportError) as error:
        raise InputError(f"detector {choice.name}: {error}") from error


def name_detector(name: str | None, options: Mapping[str, object], trained_on: DetectorRecord | None) -> DetectorChoice:
    """Returns the detector that was named, or chooses one; given options come before those that are chosen."""
    if name is not None:
        return DetectorChoice(name, options, "it was named")
    found = choose_detector(trained_on, cuda=torch.cuda.is_available())
    return DetectorChoice(found.name, {**found.options, **options}, found.reason)


def extract_regions(
    pictures: PictureInput, detector: DetectorChoice, out: Path, *, feature_size: int | None = None
) -> None:
    """Finds the regions of pictures and writes them as `pipeline.extract` does. What is there is not made again.

    Args:
        pictures: where they lie.
        detector: finds the regions.
        out: the folder for the regions.
        feature_size: what the model takes; None: any.

    Raises:
        InputError: the detector cannot be had, or its features have another size.
    """
    built = build_detector(detector)
    if feature_size not in (None, built.feature_size):
        raise InputError(
            f"{detector.name} gives features of size {built.feature_size:,}, and the model takes {feature_size:,}; "
            "name the --detector that it was trained with"
        )
    count = pictures.count() or 0
    stage = ExtractStage(
        sources=(pictures,),
        detector=detector.name,
        options=tuple({**detector.options, **_options_of_machine()}.items()),
        detector_version=built.version,
        info=regions_info(built, None),
        top_k=None,
        boxes=None,
        batch_size=8,
        partition_size=min(256, -(-count // _PARTS) or 1),
        previews=0,
    )
    workers = 1 if _options_of_machine() or count < _FEW else os.cpu_count() or 1
    run_stage(stage, location(out), Engine(workers=workers), max_rejects=1, overwrite=False)


def convert_regions(source: Path, out: Path) -> Path:
    """Returns a folder of regions in our own format: the source itself if it is one, else ``out``, where it is made."""
    if (source / REPORT).is_file():
        return source
    paths = expand([source])
    format, why = recognise_regions(paths)
    say(f"{source}: {format} ({why})")
    run_stage(RegionsStage.open(paths, format), location(out), Engine(), max_rejects=1, overwrite=False)
    return out


class RegionsInMemory(dict[str, RegionsRow]):
    """Regions by image id; see `finetune.inputs.RegionSource`."""

    def __init__(self, rows: Iterable[RegionsRow], feature_size: int) -> None:
        super().__init__((row.image_id, row) for row in rows)
        self.feature_size = feature_size


def open_regions(source: Path) -> RegionSource:
    """Opens regions in any published format. Those that are not in our own format are read into memory."""
    if (source / REPORT).is_file():
        return RegionStore([source])
    paths = expand([source])
    stage = RegionsStage.open(paths, recognise_regions(paths)[0])
    rows = (row for partition in stage.partitions() for row in FORMATS[stage.format].read(partition, stage.info))
    return RegionsInMemory((row for row in rows if isinstance(row, RegionsRow)), stage.info.feature_size)


def detect(photo: Path, detector: Detector) -> RegionsRow:
    """Finds the regions of one photo.

    Raises:
        InputError: the file is no photo, or nothing is found in it.
    """
    source = ImageSource(image_id_of_file(photo.name, "auto"), location(photo), "the file")
    pixels = load_picture(source)
    if isinstance(pixels, Reject):
        raise InputError(f"{photo}: {pixels.reason}")
    (found,) = detector.detect([pixels])
    row = to_row(source, pixels, found, regions_info(detector, None), None)
    if not isinstance(row, RegionsRow):
        raise InputError(f"{photo}: {row.reason}")
    return row


def _options_of_machine() -> dict[str, str]:
    return {"device": "cuda"} if torch.cuda.is_available() else {}
