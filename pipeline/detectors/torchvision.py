"""The detectors ``torchvision:MODEL``: torchvision's models with an RoI head, such as fasterrcnn_resnet50_fpn_v2."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.error import URLError

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchvision.models import WeightsEnum, detection, get_model, get_model_weights, list_models
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.ops import batched_nms, clip_boxes_to_image

from parsers.checksums import sha256_of
from pipeline.detectors import Detections
from shards.schema import MAX_REGIONS, Array
from shards.storage.downloads import check_reachable

NMS_IOU = 0.5
"""Regions of one class that overlap more are taken for one object."""
CONFIDENCE = 0.2
"""The least confidence of a region beyond the fewest that a picture has; bottom-up attention has the same."""
MODELS = [name for name in list_models(detection) if "rcnn" in name]


@dataclass(frozen=True)
class DetectorWeights:
    """Weights of a network and what is needed to use them."""

    state: dict[str, Tensor]
    class_names: tuple[str, ...]
    settings: dict[str, object]
    """arguments of the model, as it was trained"""
    norm_eps: float | None = None
    """the epsilon of the normalisation layers; None: the usual one"""

    @property
    def checksum(self) -> str:
        """SHA-256 of the weights and of everything else that changes what the network computes."""
        digest = hashlib.sha256(json.dumps([self.settings, self.norm_eps], sort_keys=True).encode())
        for name, value in sorted(self.state.items()):
            digest.update(name.encode())
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class RoiHeadDetector:
    """A detector that is a network of torchvision with an RoI head.

    The box of each proposal is corrected for its likeliest class. If boxes of one class overlap, the likeliest is kept.
    The boxes that are kept are pooled again, so that features and classes belong to exactly the box that is stored.
    Given boxes are described in the same way.
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
            network: a network of torchvision with ``roi_heads``.
            weights: the weights of the network.
            device: ``cpu`` or ``cuda``.
            precision: the precision of the backbone and the box head; the rest is computed in float32.
            min_boxes: the fewest boxes of a picture, even if their confidence is below `CONFIDENCE`.
            max_boxes: the most boxes of a picture.

        Raises:
            ValueError: the weights belong to another network, or the numbers of boxes do not ascend.
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
        """Returns the regions of images that have one shape."""
        height, width, _ = images[0].shape
        pixels = torch.from_numpy(np.stack(images)).to(self._device).permute(0, 3, 1, 2).float() / 255
        batch, _ = self._network.transform(list(pixels))
        resized = batch.image_sizes[0]
        scale = torch.tensor([resized[1] / width, resized[0] / height] * 2, device=self._device)
        # The pooler infers how much smaller the maps are from the first picture that it sees, and keeps that. The sides
        # of the padded picture are multiples of it. Those of a thin picture are not, and would mislead the pooler.
        padded = [tuple(batch.tensors.shape[-2:])] * len(images)
        # Without TF32, float32 is really float32, and it is the same in every run.
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
        """Returns for each image features [n, d], class probabilities [n, classes], boxes by class [n, classes, 4]."""
        heads = self._network.roi_heads
        with self._half():
            features = heads.box_head(heads.box_roi_pool(maps, boxes, sizes))
        features = features.float()
        logits, moves = heads.box_predictor(features)
        moved = heads.box_coder.decode(moves, boxes).reshape(len(logits), len(self.class_names), 4)
        counts = [len(b) for b in boxes]
        return list(zip(features.split(counts), logits.softmax(-1).split(counts), moved.split(counts), strict=True))

    def _select(self, described: list[tuple[Tensor, Tensor, Tensor]], size: tuple[int, int]) -> list[Tensor]:
        """Returns the boxes of each image that are kept, the likeliest first."""
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
    """A model of torchvision, chosen by its name."""

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
        """Builds the model. Arguments that are not listed are those of `RoiHeadDetector`.

        Args:
            model: one of `MODELS`.
            weights: ``random``, a name of torchvision's (``COCO_V1``, which is downloaded), or a state dict, .pth or
                .safetensors. The metadata of a .safetensors file may hold ``class_names``, the background first, and
                ``settings``, the model's arguments, both as JSON.
            seed: the seed of random weights.

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
    """Loads weights by their name or from a file.

    Raises:
        ValueError: there is neither, or the file holds something else.
    """
    known = get_model_weights(model)
    if weights in known.__members__:
        url = known[weights].url
        kept = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        advice = f"fetch {url} elsewhere and put it at {kept}, or give --weights FILE"
        if not kept.is_file():
            check_reachable(url, advice)
        try:
            return _published(known[weights], model, known[weights].get_state_dict(progress=False, check_hash=True))
        except (URLError, OSError) as error:
            raise ValueError(f"{url} cannot be downloaded ({error}); {advice}") from error
    path = Path(weights)
    if not path.is_file():
        raise ValueError(
            f"--weights {weights}: no such file, and {model} knows {', '.join(known.__members__) or 'none'}; or random"
        )
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: holds no weights alone (a state dict of tensors): {error}") from error
    checksum = sha256_of(path)
    for entry in known:
        if Path(entry.url).stem.rpartition("-")[2] == checksum[:8]:
            return _published(entry, model, state)
    return DetectorWeights(state, _numbered(path, state), {})


def _published(entry: WeightsEnum, model: str, state: dict[str, Tensor]) -> DetectorWeights:
    """Returns published weights. For some of them torchvision sets epsilon to zero in its code, not in the file."""
    background, *names = entry.meta["categories"]
    zero = entry.name == "COCO_V1" and model.endswith("_resnet50_fpn")
    return DetectorWeights(state, (background.strip("_"), *names), {}, norm_eps=0.0 if zero else None)


def read_safetensors(path: Path) -> DetectorWeights:
    """Reads weights with ``class_names`` and ``settings`` in their metadata.

    Raises:
        ValueError: the file cannot be read as such.
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


def _numbered(path: Path, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Returns names for the classes of weights that come without names.

    Raises:
        ValueError: the weights belong to no such model.
    """
    try:
        count = len(state["roi_heads.box_predictor.cls_score.weight"])
    except (KeyError, TypeError):
        raise ValueError(
            f"{path}: holds no `roi_heads.box_predictor.cls_score.weight`, so it is no state dict of such a model; "
            "save model.state_dict()"
        ) from None
    return ("background", *(f"class {number}" for number in range(1, count)))
