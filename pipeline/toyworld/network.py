"""A detector for toy worlds, small enough to be trained in minutes: ``pipeline.extract --detector toyworld``.

`pipeline.toyworld.simulated_features` makes features without a picture; this detector looks at the picture.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Literal

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from pipeline.detectors.torchvision import RoiHeadDetector, read_safetensors
from pipeline.toyworld.scene import HEIGHT, SHAPES, WIDTH

CLASS_NAMES = ("background", *SHAPES)
CHANNELS, FEATURES = 96, 256
_POOLED = 7


class ToyBackbone(nn.Sequential):
    """Five convolutions that give one map with `CHANNELS` channels at an eighth of the size."""

    out_channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, CHANNELS, CHANNELS, CHANNELS)
        for number, (before, after) in enumerate(pairwise(widths)):
            self.append(nn.Conv2d(before, after, 3, stride=2 if number < 3 else 1, padding=1, bias=False))
            self.append(nn.BatchNorm2d(after))
            self.append(nn.ReLU(inplace=True))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Maps float32 [n, 3, h, w] to {"0": float32 [n, channels, h / 8, w / 8]}."""
        for layer in self:
            pictures = layer(pictures)
        return {"0": pictures}


def build_network(**settings: int) -> FasterRCNN:
    """Builds a Faster R-CNN for pictures of `WIDTH` x `HEIGHT`. ``settings`` are further arguments of torchvision's."""
    return FasterRCNN(
        ToyBackbone(),
        min_size=HEIGHT,
        max_size=WIDTH,
        rpn_anchor_generator=AnchorGenerator(((32, 48, 64),), ((1.0,),)),
        rpn_post_nms_top_n_test=100,
        box_roi_pool=MultiScaleRoIAlign(["0"], _POOLED, sampling_ratio=2),
        box_head=TwoMLPHead(CHANNELS * _POOLED**2, FEATURES),
        box_predictor=FastRCNNPredictor(FEATURES, len(CLASS_NAMES)),
        **settings,
    )


class ToyworldDetector(RoiHeadDetector):
    """The registered detector ``toyworld``. ``python -m pipeline.toyworld.train_detector`` makes its weights."""

    name = "toyworld"

    def __init__(
        self,
        weights: str = "",
        device: str = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
        min_boxes: int = 1,
        max_boxes: int = 36,
    ) -> None:
        """Loads the weights from the file ``weights``; see `RoiHeadDetector` for the other arguments.

        Raises:
            ValueError: the file does not hold such weights.
        """
        if not Path(weights).is_file():
            raise ValueError(
                f"--weights {weights or '(none)'}: no such file; `python -m pipeline.toyworld.train_detector` makes it"
            )
        super().__init__(build_network(), read_safetensors(Path(weights)), device, precision, min_boxes, max_boxes)
