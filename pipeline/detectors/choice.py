"""Which detector finds the regions if the user names none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parsers.command import InputError
from shards.regions.detector import DetectorRecord

ON_A_GPU, ON_A_CPU = "vg-bottom-up", "torchvision:fasterrcnn_mobilenet_v3_large_fpn"
RELEASED_FEATURES = 2048
"""The feature size of the released models, which were trained on regions of `ON_A_GPU`."""


@dataclass(frozen=True)
class DetectorChoice:
    """A detector, its options, and why it was chosen."""

    name: str
    options: Mapping[str, object]
    reason: str


def choose_detector(trained_on: DetectorRecord | None = None, *, cuda: bool) -> DetectorChoice:
    """Chooses the detector.

    Args:
        trained_on: what is known of the regions of the model that will see the pictures; None if there is no model yet.
        cuda: whether there is a GPU.

    Raises:
        InputError: the model was trained on regions of a detector that nobody knows.
    """
    if trained_on is None and cuda:
        return DetectorChoice(ON_A_GPU, {}, "there is a GPU")
    if trained_on is None:
        return DetectorChoice(ON_A_CPU, {}, f"no GPU: it takes 0.2 s a picture, where {ON_A_GPU} takes 18 s")
    if (known := trained_on.detector) is not None:
        return DetectorChoice(known.name, known.options, "the model was trained on its regions")
    if trained_on.feature_size == RELEASED_FEATURES:
        return DetectorChoice(ON_A_GPU, {}, f"the model takes features of size {RELEASED_FEATURES:,}, as it gives")
    raise InputError(
        f"the model takes features of size {trained_on.feature_size:,} and does not record by which detector; give "
        "--detector, or --regions in place of pictures"
    )
