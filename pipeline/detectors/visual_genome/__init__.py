"""The Visual Genome Faster R-CNN of "bottom-up attention" (Anderson et al., CVPR 2018): ResNet-101 C4, 1,600 objects, 400
attributes, features of 2,048 numbers.

It loads the weights ``unc-nlp/frcnn-vg-finetuned`` and computes what the Hugging Face port (transformers' LXMERT
example) computes, without these faults of public ports:

- Pictures enter as BGR, which the weights were trained on, wherever they come from. The port feeds local files as RGB.
- Every picture is computed in its own size, so the others of a batch change nothing. The port pads, reads proposals off
  the padding, and divides the boxes of a batch by the size of another picture.
- Where no threshold leaves the minimum of boxes, there are fewer. The port crashes, or returns the boxes of the picture
  before.
- Empty boxes are never returned.
- The sides are scaled back one by one, each by what it was really scaled, and boxes are in pixels of the given picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.detectors import Detections
from pipeline.detectors.visual_genome.network import ATTRIBUTES, BACKGROUND, FEATURES, OBJECTS, Described
from pipeline.detectors.visual_genome.preprocessing import network_input, resized_size
from pipeline.detectors.visual_genome.proposals import AFTER_NMS, ROI_WEIGHTS, clip, decode, not_empty
from pipeline.detectors.visual_genome.selection import select_butd, select_hf
from pipeline.detectors.visual_genome.weights import HUB_ID, load_network
from shards.errors import InputError
from shards.files import read_lines
from shards.schema import Array

VOCABULARY = ("objects_vocab.txt", "attributes_vocab.txt")
"""How the names of the classes and attributes are published: a line each, synonyms divided by commas."""
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Preset:
    """Which regions to take, and how large to look at the picture."""

    rule: Literal["butd", "hf"]
    """`select_butd`, whose boxes are the proposals, or `select_hf`, whose boxes are corrected for their class"""
    min_boxes: int
    max_boxes: int
    min_size: int = 600
    """pixels of the shorter side"""
    max_size: int = 1000
    """pixels that the longer side may have at most"""

    def __post_init__(self) -> None:
        if self.rule not in ("butd", "hf"):
            raise ValueError(f"there is no rule {self.rule!r}; there are butd and hf")
        if not 0 <= self.min_boxes <= self.max_boxes <= AFTER_NMS or self.max_boxes == 0:
            raise ValueError(f"{self.min_boxes} to {self.max_boxes} boxes; 0 <= min <= max <= {AFTER_NMS} and max > 0")
        if not 0 < self.min_size <= self.max_size:
            raise ValueError(f"sides of {self.min_size} to {self.max_size} pixels; 0 < min <= max")


PRESETS = {
    "ernie-vil": Preset("butd", 10, 36),
    "ernie-vil-vqa": Preset("butd", 100, 100),
    "flickr": Preset("butd", 0, 36),
    "lxmert": Preset("hf", 36, 36, 800, 1333),
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures that have the same size once they are resized."""

    indices: list[int]
    """which of the given pictures they are"""
    pixels: Tensor
    """float32 [N, 3, height, width], the network's input"""
    scales: list[Tensor]
    """float32 [4] each: pixels of the given picture per pixel of the resized one, for x, y, x, y"""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the resized pictures."""
        height, width = self.pixels.shape[2:]
        return height, width


class VisualGenomeDetector:
    """The registered detector ``vg-bottom-up``; see `pipeline.detectors.Detector`.

    `detect` is `batches`, then `describe` and `select` for each of them. In float32, each picture's regions are bit by
    bit those that it has alone; TODO
    """

    name = "vg-bottom-up"
    feature_size = FEATURES
    background: int | None = BACKGROUND

    def __init__(
        self,
        weights: str | Path = HUB_ID,
        *,
        preset: str | Preset = "ernie-vil",
        vocabulary: str | Path | None = None,
        device: str = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        """Loads the weights.

        Args:
            weights: see `load_network`.
            preset: which regions to take, one of `PRESETS` by name or one's own.
            vocabulary: a folder with the names of classes and attributes (`VOCABULARY`); without it they are numbered.
            device: as torch names it.
            precision: of the large convolutions; all else is computed in float32.

        Raises:
            InputError: the weights or the names cannot be had.
            ValueError: there is no such preset or precision.
        """
        if isinstance(preset, str) and preset not in PRESETS:
            raise ValueError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
        if precision not in _PRECISIONS:
            raise ValueError(f"there is no precision {precision!r}; there are {', '.join(_PRECISIONS)}")
        self.preset = PRESETS[preset] if isinstance(preset, str) else preset
        self.class_names = (*_names(vocabulary, VOCABULARY[0], "object", OBJECTS), "background")
        self.attribute_names = _names(vocabulary, VOCABULARY[1], "attribute", ATTRIBUTES)
        self._network, checksum = load_network(weights)
        self._network.fuse(_PRECISIONS[precision])
        self._network.to(device)
        self._device, self._dtype = torch.device(device), _PRECISIONS[precision]
        settings = " ".join(str(value) for value in asdict(self.preset).values())
        self.version = f"1 {checksum[:16]} {settings} {precision}"

    @torch.inference_mode()
    def detect(self, images: Sequence[Array], boxes: Sequence[Array] | None = None) -> list[Detections]:
        """The regions of each image.

        Args:
            images: uint8 [height, width, 3] each, RGB; sizes may differ.
            boxes: float32 [n, 4] for each image, in its pixels. If given, exactly these are described, in their order.

        Raises:
            ValueError: an image or a box is none.
        """
        detections: dict[int, Detections] = {}
        for batch in self.batches(images):
            given = None if boxes is None else [boxes[i] for i in batch.indices]
            described = self.describe(batch, given)
            detections |= zip(batch.indices, self.select(batch, described, given), strict=True)
        return [detections[i] for i in range(len(images))]

    def batches(self, images: Sequence[Array]) -> Iterator[Batch]:
        """The images resized and as the network takes them, those of equal size together.

        Raises:
            ValueError: one is no picture.
        """
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ValueError(f"image {i} is {image.dtype} {image.shape}, expected uint8 [height, width, 3]")
            size = resized_size(*image.shape[:2], self.preset.min_size, self.preset.max_size)
            by_size.setdefault(size, []).append(i)
        for size, indices in by_size.items():
            pixels = torch.stack([network_input(images[i], size, self._device) for i in indices])
            scales = [(images[i].shape[0] / size[0], images[i].shape[1] / size[1]) for i in indices]
            yield Batch(indices, pixels, [pixels.new_tensor((x, y, x, y)) for y, x in scales])

    @torch.inference_mode()
    def describe(self, batch: Batch, boxes: Sequence[Array] | None = None) -> list[Described]:
        """What the network says of the proposals, or of the given boxes, of each image of a batch.

        Raises:
            ValueError: a given box is none.
        """
        network = self._network
        pixels = batch.pixels.to(self._dtype, memory_format=torch.channels_last)
        # What is called float32 is float32.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
            maps = network.backbone(pixels)
            if boxes is None:
                found = network.propose(maps, batch.size)
            else:
                found = [clip(torch.from_numpy(b).to(s) / s, batch.size) for b, s in zip(boxes, batch.scales, strict=True)]
            return [network.roi_heads(maps[i : i + 1], rois) for i, rois in enumerate(found)]

    @torch.inference_mode()
    def select(
        self, batch: Batch, described: Sequence[Described], boxes: Sequence[Array] | None = None
    ) -> list[Detections]:
        """The regions of each image of a batch: those that the preset takes, or the given boxes as they were given."""
        detections = []
        for i, (image, scale) in enumerate(zip(described, batch.scales, strict=True)):
            if boxes is not None:
                regions, rows = torch.from_numpy(boxes[i]), torch.arange(len(image.boxes), device=self._device)
            elif self.preset.rule == "butd":
                regions, rows = self._select_butd(image, scale)
            else:
                regions, rows = self._select_hf(image, scale, batch.size)
            columns = (regions, image.features[rows], image.class_probs[rows], image.attribute_probs[rows])
            detections.append(Detections(*(column.cpu().numpy() for column in columns)))
        return detections

    def _select_butd(self, image: Described, scale: Tensor) -> tuple[Tensor, Tensor]:
        boxes = image.boxes * scale
        probs = image.class_probs[:, :OBJECTS].cpu().numpy()
        found = select_butd(boxes.cpu().numpy(), probs, self.preset.min_boxes, self.preset.max_boxes)
        rows = torch.from_numpy(found).to(self._device)
        return boxes[rows], rows

    def _select_hf(self, image: Described, scale: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        probs, classes = image.class_probs[:, :OBJECTS].max(1)
        deltas = self._network.roi_heads.box_predictor.deltas(image.features, classes)
        boxes = clip(decode(image.boxes, deltas, ROI_WEIGHTS), size)
        (found,) = not_empty(boxes).nonzero(as_tuple=True)
        rows = found[select_hf(boxes[found], probs[found], self.preset.min_boxes, self.preset.max_boxes)]
        return boxes[rows] * scale, rows


def _names(vocabulary: str | Path | None, file: str, kind: str, count: int) -> tuple[str, ...]:
    if vocabulary is None:
        return tuple(f"{kind} {i}" for i in range(count))
    names = read_lines(Path(vocabulary) / file)
    if len(names) != count:
        raise InputError(f"{Path(vocabulary) / file}: has {len(names)} lines, expected one for each of {count} names")
    return tuple(names)
