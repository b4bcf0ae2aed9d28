"""The detection models of torchvision that have an RoI head: ``torchvision:fasterrcnn_resnet50_fpn_v2`` and others."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchvision.models import detection, get_model, get_model_weights, list_models
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.ops import batched_nms, clip_boxes_to_image

from pipeline.detectors import Detections
from shards.schema import MAX_REGIONS, Array

NMS_IOU = 0.5
"""Two regions of one class overlap less."""
CONFIDENCE = 0.2
"""Of a region that counts towards more than the least number; that of bottom-up attention."""
MODELS = [name for name in list_models(detection) if "rcnn" in name]


@dataclass(frozen=True)
class DetectorWeights:
    """Weights and what goes with them."""

    state: dict[str, Tensor]
    class_names: tuple[str, ...]
    settings: dict[str, Any]
    """arguments of the model that they were trained with"""
    norm_eps: float | None = None
    """of the normalisation layers, where it is not the usual one"""

    @property
    def checksum(self) -> str:
        """sha256 over names and values, and over what else changes what the network computes."""
        digest = hashlib.sha256(json.dumps([self.settings, self.norm_eps], sort_keys=True).encode())
        for name, value in sorted(self.state.items()):
            digest.update(name.encode())
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class RoiHeadDetector:
    """A network of torchvision with an RoI head. A region is a box of its own regression, described by its box head.

    The best class of each proposal moves the proposal's box; of boxes of one class that overlap, the likeliest stays.
    The boxes that are kept are pooled again, so features and classes belong to the very box that is stored, and boxes
    that are given are described just as boxes that are found.
    """

    name = "torchvision"
    attribute_names: tuple[str, ...] = ()
    background: int | None = 0

    def __init__(
        self,
        network: FasterRCNN,
        weights: DetectorWeights,
        device: str,
        precision: Literal["fp32", "bf16"],
        min_boxes: int,
        max_boxes: int,
    ) -> None:
        """Loads the weights.

        Args:
            network: any of torchvision's with ``roi_heads``.
            weights: of that network.
            device: ``cpu`` or ``cuda``.
            precision: of the backbone and the box head; all else is computed in float32.
            min_boxes: as many as there are of the likeliest regions, if fewer are likelier than `CONFIDENCE`.
            max_boxes: at most so many.

        Raises:
            ValueError: the weights are of another network, or the numbers of boxes are none.
        """
        if not min_boxes <= max_boxes <= MAX_REGIONS:
            raise ValueError(f"--min-boxes {min_boxes} and --max-boxes {max_boxes}: not ascending up to {MAX_REGIONS}")
        try:
            network.load_state_dict(weights.state)
        except RuntimeError as error:
            raise ValueError(f"the weights are of another network: {' '.join(str(error).split())[:500]}") from error
        self._network = network.eval().requires_grad_(False).to(device)
        self._device, self._precision = torch.device(device), precision
        self._min_boxes, self._max_boxes = min_boxes, max_boxes
        self.class_names = weights.class_names
        self.feature_size: int = network.roi_heads.box_predictor.cls_score.in_features
        self.version = f"1 {weights.checksum[:16]}"

    @torch.inference_mode()
    def detect(self, images: Sequence[Array], boxes: Sequence[Array] | None = None) -> list[Detections]:
        """See `pipeline.detectors.Detector`."""
        found: dict[int, Detections] = {}
        # One shape at a time: padding to a common size would change what the network sees at the borders.
        for shape in dict.fromkeys(image.shape for image in images):
            numbers = [number for number, image in enumerate(images) if image.shape == shape]
            given = None if boxes is None else [torch.from_numpy(boxes[number]) for number in numbers]
            found |= zip(numbers, self._detect([images[number] for number in numbers], given), strict=True)
        return [found[number] for number in range(len(images))]

    def _detect(self, images: Sequence[Array], given: list[Tensor] | None) -> list[Detections]:
        """Of images of one shape."""
        height, width, _ = images[0].shape
        pixels = torch.from_numpy(np.stack(images)).to(self._device).permute(0, 3, 1, 2).float() / 255
        batch, _ = self._network.transform(list(pixels))
        resized = batch.image_sizes[0]
        scale = torch.tensor([resized[1] / width, resized[0] / height] * 2, device=self._device)
        # From the first size that it sees the pooler infers how much smaller the maps are, and it keeps that for all
        # that follow. Padded sides are multiples of it; those of a thin picture, which are not, would mislead it.
        padded = [tuple(batch.tensors.shape[-2:])] * len(images)
        # What is called float32 is float32, and the same in every run.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
            with self._half():
                maps = self._network.backbone(batch.tensors)
            maps = {name: values.float() for name, values in maps.items()}
            if given is None:
                proposals, _ = self._network.rpn(batch, maps)
                kept = self._select(self._describe(maps, proposals, padded), resized)
            else:
                kept = [boxes.to(self._device) * scale for boxes in given]
            described = self._describe(maps, kept, padded)
        return [
            Detections(
                (boxes / scale).cpu().numpy() if given is None else given[number].numpy(),
                features.cpu().numpy(),
                probabilities.cpu().numpy(),
                None,
            )
            for number, (boxes, (features, probabilities, _)) in enumerate(zip(kept, described, strict=True))
        ]

    def _half(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bf16")

    def _describe(
        self, maps: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, ...]]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each image: features [n, d], class distributions [n, classes], boxes for each class [n, classes, 4]."""
        heads = self._network.roi_heads
        with self._half():
            features = heads.box_head(heads.box_roi_pool(maps, boxes, sizes))
        features = features.float()
        logits, moves = heads.box_predictor(features)
        moved = heads.box_coder.decode(moves, boxes).reshape(len(logits), len(self.class_names), 4)
        counts = [len(b) for b in boxes]
        return list(zip(features.split(counts), logits.softmax(-1).split(counts), moved.split(counts), strict=True))

    def _select(self, described: list[tuple[Tensor, Tensor, Tensor]], size: tuple[int, int]) -> list[Tensor]:
        """The boxes to keep of each image, the likeliest first."""
        kept = []
        for _, probabilities, moved in described:
            confidence, best = probabilities[:, 1:].max(1)
            boxes = clip_boxes_to_image(moved[torch.arange(len(best)), best + 1], size)
            whole = torch.nonzero(((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1))[:, 0]
            boxes, confidence, best = boxes[whole], confidence[whole], best[whole]
            ranked = batched_nms(boxes, confidence, best, NMS_IOU)
            confident = int((confidence[ranked] >= CONFIDENCE).sum())
            kept.append(boxes[ranked[: min(max(confident, self._min_boxes), self._max_boxes)]])
        return kept


class TorchvisionDetector(RoiHeadDetector):
    """One of torchvision's models by name."""

    def __init__(
        self,
        model: str = "",
        weights: str = "DEFAULT",
        seed: int = 0,
        device: str = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
        min_boxes: int = 10,
        max_boxes: int = 36,
    ) -> None:
        """Builds the model. The other arguments are those of `RoiHeadDetector`.

        Args:
            model: one of `MODELS`.
            weights: ``random``, a name of torchvision's (``COCO_V1``; it is downloaded), or a file: a state dict as
                .pth or .safetensors. The metadata of a .safetensors may hold ``class_names``, the background first,
                and ``settings``, the model's arguments, as JSON.
            seed: of random weights.

        Raises:
            ValueError: there is no such model, or the weights do not fit it.
        """
        if model not in MODELS:
            raise ValueError(f"no torchvision model {model!r} with an RoI head; there are {', '.join(MODELS)}")
        found = _random(model, seed) if weights == "random" else _load(model, weights)
        settings = {"weights": None, "weights_backbone": None, "num_classes": len(found.class_names)}
        try:
            network: FasterRCNN = get_model(model, **settings, **found.settings)
        except TypeError as error:
            raise ValueError(f"--weights {weights}: {model} does not take its settings: {error}") from error
        if found.norm_eps is not None:
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = found.norm_eps
        super().__init__(network, found, device, precision, min_boxes, max_boxes)
        self.version = f"{self.version} {model}"


# ------------------------------------------------------------------------------------------------------------- weights


def _random(model: str, seed: int) -> DetectorWeights:
    names = ("background", *(f"class {number}" for number in range(1, 91)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = get_model(model, weights=None, weights_backbone=None, num_classes=len(names))
    return DetectorWeights(network.state_dict(), names, {})


def _load(model: str, weights: str) -> DetectorWeights:
    """Named weights or those of a file.

    Raises:
        ValueError: there is neither, or the file holds something else.
    """
    known = get_model_weights(model)
    if weights in known.__members__:
        try:
            return _published(known[weights], model, known[weights].get_state_dict(progress=False, check_hash=True))
        except (URLError, OSError) as error:
            raise ValueError(
                f"{known[weights].url} cannot be downloaded ({error}); fetch it elsewhere and give --weights FILE"
            ) from error
    path = Path(weights)
    if not path.is_file():
        raise ValueError(
            f"--weights {weights}: no such file, and {model} knows {', '.join(known.__members__) or 'none'}; or random"
        )
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    data = path.read_bytes()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: holds no weights alone (a state dict of tensors): {error}") from error
    checksum = hashlib.sha256(data).hexdigest()
    for entry in known:
        if Path(entry.url).stem.rpartition("-")[2] == checksum[:8]:
            return _published(entry, model, state)
    return DetectorWeights(state, _numbered(path, state), {})


def _published(entry: Any, model: str, state: dict[str, Tensor]) -> DetectorWeights:
    """Weights of torchvision. It sets the epsilon of some to zero, in code and not in the file."""
    background, *names = entry.meta["categories"]
    zero = entry.name == "COCO_V1" and model.endswith("_resnet50_fpn")
    return DetectorWeights(state, (background.strip("_"), *names), {}, norm_eps=0.0 if zero else None)


def read_safetensors(path: Path) -> DetectorWeights:
    """Weights with ``class_names`` and ``settings`` in their metadata.

    Raises:
        ValueError: the file is no such thing.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        names = tuple(map(str, json.loads(metadata["class_names"]))) if "class_names" in metadata else None
        settings = json.loads(metadata.get("settings", "{}"))
    except (SafetensorError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: cannot be read as safetensors: {error}") from error
    return DetectorWeights(state, names or _numbered(path, state), settings)


def _numbered(path: Path, state: Any) -> tuple[str, ...]:
    """Names for the classes of weights that have none."""
    try:
        count = len(state["roi_heads.box_predictor.cls_score.weight"])
    except (KeyError, TypeError):
        raise ValueError(
            f"{path}: holds no `roi_heads.box_predictor.cls_score.weight`, so it is no state dict of such a model; "
            "save model.state_dict()"
        ) from None
    return ("background", *(f"class {number}" for number in range(1, count)))
