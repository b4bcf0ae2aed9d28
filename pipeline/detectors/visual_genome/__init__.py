"""The Visual Genome Faster R-CNN of "bottom-up attention" (Anderson et al., CVPR 2018).

ResNet-101 C4, 1,600 objects, 400 attributes, features of 2,048 numbers.

Modules here may import `parsers.command`, `shards` and `pipeline.detectors`.
Start reading at `VisualGenomeDetector`, then `network`; `proposals` and `selection` decide which boxes remain.

It loads the weights ``unc-nlp/frcnn-vg-finetuned`` and computes what the Hugging Face port (transformers' LXMERT
example) computes, without these faults of public ports:

- The network gets every picture as BGR, as in training. The port gives it local files as RGB.
- Every picture is computed in its own size, so its neighbours change nothing. The port pads the pictures of a batch,
  and divides the boxes of one picture by the size of another.
- If no threshold leaves the minimum of boxes, there are fewer. The port crashes, or returns the boxes of the previous
  picture.
- Boxes that become empty when they are corrected are left out. The port returns them.
- Each side of a box is scaled back by the factor by which that side was really scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from parsers.command import InputError, pluralize
from pipeline.detectors import Detections
from pipeline.detectors.visual_genome.network import ATTRIBUTES, BACKGROUND, FEATURES, OBJECTS, Described
from pipeline.detectors.visual_genome.preprocessing import network_input, resized_size
from pipeline.detectors.visual_genome.proposals import AFTER_NMS, ROI_WEIGHTS, apply_deltas, not_empty
from pipeline.detectors.visual_genome.selection import select_butd, select_hf
from pipeline.detectors.visual_genome.weights import HUB_ID, load_visual_genome
from shards.schema import Array
from shards.storage.files import read_text_lines

VOCABULARY = ("objects_vocab.txt", "attributes_vocab.txt")
"""The files in which the names of classes and attributes are published, one a line; commas separate synonyms."""
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """Which regions are taken, and the size to which the picture is resized."""

    rule: Literal["butd", "hf"]
    """`select_butd`, which keeps the boxes of proposals, or `select_hf`, which corrects boxes for their class"""
    min_boxes: int
    max_boxes: int
    min_size: int = 600
    """the shorter side in pixels"""
    max_size: int = 1000
    """the longest that the longer side may become, in pixels"""

    def __post_init__(self) -> None:
        if self.rule not in ("butd", "hf"):
            raise ValueError(f"there is no rule {self.rule!r}; there are butd and hf")
        if not 0 <= self.min_boxes <= self.max_boxes <= AFTER_NMS or self.max_boxes == 0:
            raise ValueError(f"{self.min_boxes} to {self.max_boxes} boxes; 0 <= min <= max <= {AFTER_NMS} and max > 0")
        if not 0 < self.min_size <= self.max_size:
            raise ValueError(f"sides of {self.min_size} to {self.max_size} pixels; 0 < min <= max")


PRESETS: dict[str, DetectionSettings] = {
    "ernie-vil": DetectionSettings("butd", 10, 36),
    "ernie-vil-vqa": DetectionSettings("butd", 100, 100),
    "flickr": DetectionSettings("butd", 0, 36),
    "lxmert": DetectionSettings("hf", 36, 36, 800, 1333),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as the network takes it, resized."""

    pixels: Tensor
    """float32 [1, 3, height, width]: BGR from which the mean is subtracted"""
    scale: Tensor
    """float32 [4]: how many pixels of the image a pixel of the resized one covers, for x, y, x, y"""

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of the resized image."""
        height, width = self.pixels.shape[2:]
        return height, width


class VisualGenomeDetector:
    """The registered detector ``vg-bottom-up``; see `pipeline.detectors.Detector`.

    `detect` calls `prepare`, `describe` and `select` for one image after the other, so the regions of an image are
    bitwise the same in every batch. That costs little: nine tenths of the work are the 300 boxes of one image.
    """

    name = "vg-bottom-up"
    feature_size = FEATURES
    background: int | None = BACKGROUND

    def __init__(
        self,
        weights: str = HUB_ID,
        preset: str | DetectionSettings = "ernie-vil",
        *,
        min_boxes: int | None = None,
        max_boxes: int | None = None,
        class_names: str | None = None,
        device: str = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        """Loads the weights.

        Args:
            weights: a file, a folder or a model of the hub, see `load_visual_genome`.
            preset: the name of one of `PRESETS`, or other settings.
            min_boxes: the fewest boxes; None: those of the preset.
            max_boxes: the most boxes; None: those of the preset.
            class_names: a folder with the names of classes and attributes (`VOCABULARY`); None: they are numbered.
            device: the name of the device in PyTorch.
            precision: the precision of the large convolutions; the rest is computed in float32.

        Raises:
            InputError: the weights or the names cannot be read.
            ValueError: there is no such preset or precision, or the numbers of boxes do not go together.
        """
        if isinstance(preset, str):
            if preset not in PRESETS:
                raise ValueError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
            preset = PRESETS[preset]
        if precision not in _PRECISIONS:
            raise ValueError(f"there is no precision {precision!r}; there are {', '.join(_PRECISIONS)}")
        self.settings = replace(
            preset,
            min_boxes=preset.min_boxes if min_boxes is None else min_boxes,
            max_boxes=preset.max_boxes if max_boxes is None else max_boxes,
        )
        self.class_names = (*_names(class_names, VOCABULARY[0], "object", OBJECTS), "background")
        self.attribute_names = _names(class_names, VOCABULARY[1], "attribute", ATTRIBUTES)
        self.network, checksum = load_visual_genome(weights)
        self.network.fuse(_PRECISIONS[precision])
        self.network.to(device)
        self._device, self._dtype = torch.device(device), _PRECISIONS[precision]
        self.version = " ".join(map(str, (1, checksum[:16], *astuple(self.settings), precision)))

    @torch.inference_mode()
    def detect(self, images: Sequence[Array], boxes: Sequence[Array] | None = None) -> list[Detections]:
        """Returns the regions of each image.

        Args:
            images: uint8 [height, width, 3] each, RGB; sizes may differ.
            boxes: float32 [n, 4] for each image, in its pixels. If given, exactly these boxes are described, in order.

        Raises:
            ValueError: an image has another type or shape, or boxes have not four numbers each.
        """
        detections = []
        for i, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ValueError(f"image {i} is {image.dtype} {image.shape}, expected uint8 [height, width, 3]")
            picture = self.prepare(image)
            if boxes is None:
                detections.append(self.select(picture, self.describe(picture)))
                continue
            given = np.array(boxes[i], np.float32)
            if given.ndim != 2 or given.shape[1] != 4:
                raise ValueError(f"image {i}: given boxes of shape {given.shape}, expected [n, 4]")
            placed = clip_boxes_to_image(picture.scale.new_tensor(given) / picture.scale, picture.size)
            described = self.describe(picture, placed)
            detections.append(_detections(given, described, torch.arange(len(given))))
        return detections

    def prepare(self, image: Array) -> Picture:
        """Returns the image, uint8 [height, width, 3], as the network takes it."""
        height, width, _ = image.shape
        size = resized_size(height, width, self.settings.min_size, self.settings.max_size)
        x, y = width / size[1], height / size[0]
        pixels = network_input(image, size, self._device)
        return Picture(pixels[None], pixels.new_tensor((x, y, x, y)))

    @torch.inference_mode()
    def describe(self, picture: Picture, boxes: Tensor | None = None) -> Described:
        """Describes the network's own proposals or, if given, boxes, float32 [n, 4] in pixels of the resized image."""
        network = self.network
        # Without TF32, float32 is really float32, and it is the same in every run.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
            cells = network.backbone(picture.pixels.to(self._dtype, memory_format=torch.channels_last))
            described: Described = network.roi_heads(
                cells, network.propose(cells, picture.size) if boxes is None else boxes
            )
        return described

    @torch.inference_mode()
    def select(self, picture: Picture, described: Described) -> Detections:
        """Returns those of the proposals that become regions."""
        least, most = self.settings.min_boxes, self.settings.max_boxes
        probs = described.class_probs[:, :OBJECTS]
        if self.settings.rule == "butd":
            boxes = described.boxes * picture.scale
            rows = torch.from_numpy(select_butd(boxes.cpu().numpy(), probs.cpu().numpy(), least, most))
        else:
            confidence, classes = probs.max(1)
            deltas = self.network.roi_heads.box_predictor.deltas(described.features, classes)
            corrected = clip_boxes_to_image(apply_deltas(described.boxes, deltas, ROI_WEIGHTS), picture.size)
            boxes = corrected * picture.scale
            (there,) = not_empty(corrected).nonzero(as_tuple=True)
            rows = there[select_hf(corrected[there], confidence[there], least, most)]
        return _detections(boxes[rows].cpu().numpy(), described, rows)


def _detections(boxes: Array, described: Described, rows: Tensor) -> Detections:
    columns = (described.features, described.class_probs, described.attribute_probs)
    return Detections(boxes, *(column[rows].cpu().numpy() for column in columns))


def _names(folder: str | None, file: str, kind: str, count: int) -> tuple[str, ...]:
    if folder is None:
        return tuple(f"{kind} {i}" for i in range(count))
    names = read_text_lines(Path(folder) / file)
    if len(names) != count:
        raise InputError(
            f"{Path(folder) / file}: has {pluralize(len(names), 'line')}, expected one for each of {count} names"
        )
    return tuple(names)
