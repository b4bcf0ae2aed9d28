"""Reads, masks and pads the pairs of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pretrain.data.masking import SpecialTokens, Text, mask_regions, mask_text
from pretrain.data.order import BatchPlan, Pairs, micro_batches
from pretrain.data.padding import padded_length
from pretrain.model.config import RegionTarget
from pretrain.recipe import Images, Masking, Recipe
from shards.random_numbers import generator
from shards.reader import ShardSet
from shards.schema import Array, Regions

_MASKS = 1 << 32
"""Keeps the random numbers of masks apart from those of the order."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch: B pairs of T text positions and R image rows, N text targets and M region targets."""

    token_ids: Tensor  # int64 [B, T]
    position_ids: Tensor  # int64 [B, T]
    segment_ids: Tensor  # int64 [B, T]
    text_mask: Tensor | None  # bool [B, T]; None where no text is padded
    features: Tensor  # float32 [B, R, d]; row 0 is the whole image
    locations: Tensor  # float32 [B, R, 5]
    image_mask: Tensor | None  # bool [B, R]; None where no image is padded
    text_targets: Tensor  # int64 [N], sample * T + position
    text_labels: Tensor  # int64 [N]
    text_kinds: Tensor  # int64 [N]
    region_targets: Tensor  # int64 [M], sample * R + row
    region_class_ids: Tensor  # int64 [M, k]; k is 0 where features are predicted
    region_class_probs: Tensor  # float32 [M, k]
    region_features: Tensor  # float32 [M, d]; d is 0 where classes are predicted
    matched: Tensor  # float32 [B]

    def inputs(self) -> dict[str, Tensor | None]:
        """The arguments of `pretrain.model.heads.ErnieViLForPreTraining.forward`."""
        names = ("token_ids", "position_ids", "segment_ids", "text_mask", "features", "locations", "image_mask")
        return {name: getattr(self, name) for name in (*names, "text_targets", "region_targets")}

    def samples(self) -> int:
        """How many pairs there are."""
        return len(self.matched)

    def tokens(self) -> int:
        """Text positions that are no padding."""
        return self.token_ids.numel() if self.text_mask is None else int(self.text_mask.sum())

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: t.to(device, non_blocking=True) for n, t in tensors.items() if t is not None})


class Collator:
    """Turns pairs into batches. What is masked follows from (seed, epoch, sample, caption) alone."""

    def __init__(
        self,
        shards: ShardSet,
        *,
        seed: int,
        max_text: int,
        masking: Masking,
        region_target: RegionTarget = "distribution",
        images: Images,
        device_type: str,
    ) -> None:
        self._shards = shards
        self._special = SpecialTokens.of(shards.vocabulary)
        self._seed = seed
        self._max_text = max_text
        self._masking = masking
        self._region_target = region_target
        self._images = images
        self._device_type = device_type

    @classmethod
    def of(cls, recipe: Recipe, shards: ShardSet, device_type: str) -> Collator:
        """The collator that a recipe trains with."""
        return cls(
            shards,
            seed=recipe.seed,
            max_text=recipe.max_text,
            masking=recipe.active_masking,
            region_target=recipe.region_target,
            images=recipe.images,
            device_type=device_type,
        )

    def __call__(self, pairs: Pairs) -> Batch:
        """Reads and masks the pairs. Text-only pairs have one image row, of zeros."""
        texts, images = [], []
        for number in range(len(pairs)):
            shard, row, caption = pairs.text[number].tolist()
            matched = bool(pairs.matched[number])
            random = generator(self._seed, int(pairs.visit[number]), shard + _MASKS, row, caption)
            texts.append(
                mask_text(
                    self._shards.masks(shard, row),
                    caption,
                    matched=matched or self._images == "none",
                    max_text=self._max_text,
                    settings=self._masking,
                    special=self._special,
                    random=random,
                )
            )
            source = (number + 1) % len(pairs) if self._images == "other" else number
            image_shard, image_row = pairs.image[source].tolist()
            masked = matched and self._images == "own"
            images.append(self._image(image_shard, image_row, random if masked else None))
        return self._pad(texts, images, pairs.matched)

    def collate(self, texts: list[Text], images: Array) -> Batch:
        """Pads texts that are masked already, before whole images.

        Args:
            texts: n of them.
            images: int64 [n, 2], shard and row of the image of each.
        """
        whole = [self._image(shard, row, None) for shard, row in images.tolist()]
        return self._pad(texts, whole, np.ones(len(texts), bool))

    def _image(self, shard: int, row: int, random: np.random.Generator | None) -> _Image:
        """Reads an image; masks it if there are random numbers for that."""
        d = self._shards.manifest.feature_size
        if self._images == "none":
            return _Image(np.zeros((1, d), np.float32), _WHOLE, *_NO_TARGETS)
        regions = self._shards.regions(shard, row)
        n = len(regions.boxes)
        if random is None or (regions.class_ids is None and self._region_target != "features"):
            taken = hidden = np.zeros(n, bool)
        else:
            taken, hidden = mask_regions(regions.boxes, settings=self._masking, random=random)
        features = np.zeros((n + 1, d), np.float32)
        features[1:] = regions.features
        features[1:][hidden] = 0
        features[0] = features[1:].mean(0)
        width, height = self._shards.shard(shard).sizes[row].tolist()
        targets = _region_targets(regions, np.flatnonzero(taken), self._region_target)
        return _Image(features, _locations(regions.boxes, width, height), *targets)

    def _pad(self, texts: list[Text], images: list[_Image], matched: Array) -> Batch:
        b = len(texts)
        t = padded_length([len(text.token_ids) for text in texts], self._device_type)
        r = padded_length([len(image.features) for image in images], self._device_type)
        d = self._shards.manifest.feature_size
        token_ids = np.full((b, t), self._special.pad, np.int64)
        segment_ids = np.zeros((b, t), np.int64)
        text_mask, image_mask = np.zeros((b, t), bool), np.zeros((b, r), bool)
        features, locations = np.zeros((b, r, d), np.float32), np.zeros((b, r, 5), np.float32)
        for number, (text, image) in enumerate(zip(texts, images, strict=True)):
            token_ids[number, : len(text.token_ids)] = text.token_ids
            segment_ids[number, : len(text.token_ids)] = text.segment_ids
            text_mask[number, : len(text.token_ids)] = True
            features[number, : len(image.features)] = image.features
            locations[number, : len(image.features)] = image.locations
            image_mask[number, : len(image.features)] = True
        k = max((image.class_ids.shape[1] for image in images), default=0)
        wide = d if self._region_target == "features" else 0
        none = np.zeros(0, np.int64)
        arrays = {
            "token_ids": token_ids,
            "position_ids": np.arange(t) * text_mask,  # 0 in padding, which may lie beyond the last position
            "segment_ids": segment_ids,
            "features": features,
            "locations": locations,
            "text_targets": np.concatenate([none, *(i * t + text.targets for i, text in enumerate(texts))]),
            "text_labels": np.concatenate([none, *(text.labels for text in texts)]),
            "text_kinds": np.concatenate([none, *(text.kinds for text in texts)]),
            "region_targets": np.concatenate([none, *(i * r + image.targets for i, image in enumerate(images))]),
            "region_class_ids": _stack([image.class_ids for image in images], k, np.dtype(np.int64)),
            "region_class_probs": _stack([image.class_probs for image in images], k, np.dtype(np.float32)),
            "region_features": _stack([image.target_features for image in images], wide, np.dtype(np.float32)),
            "matched": matched.astype(np.float32),
        }
        return Batch(
            text_mask=None if text_mask.all() else torch.from_numpy(text_mask),
            image_mask=None if image_mask.all() else torch.from_numpy(image_mask),
            **{name: torch.from_numpy(array) for name, array in arrays.items()},
        )


@dataclass(frozen=True, slots=True)
class _Image:
    features: Array
    locations: Array
    targets: Array
    class_ids: Array
    class_probs: Array
    target_features: Array


_WHOLE = np.array([[0, 0, 1, 1, 1]], np.float32)
_NO_COLUMNS = np.zeros((0, 0))
_NO_TARGETS = np.zeros(0, np.int64), _NO_COLUMNS, _NO_COLUMNS, _NO_COLUMNS


def _region_targets(regions: Regions, taken: Array, target: RegionTarget) -> tuple[Array, Array, Array, Array]:
    """Image rows of the regions ``taken``, their class ids, class probabilities and features; no columns: unused."""
    rows, unused = taken + 1, np.zeros((len(taken), 0))
    if target == "features":
        return rows, unused, unused, regions.features[taken]
    if regions.class_ids is None or regions.class_probs is None:
        return _NO_TARGETS
    if target == "argmax":  # the divergence from all in one class is the cross-entropy
        return rows, regions.class_ids[taken, :1], np.ones((len(taken), 1)), unused
    return rows, regions.class_ids[taken], regions.class_probs[taken], unused


def _locations(boxes: Array, width: int, height: int) -> Array:
    """float32 [n + 1, 5]: the whole image, then x1/W, y1/H, x2/W, y2/H and the share of the area of each box."""
    corners = boxes / np.array([width, height, width, height], np.float32)
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    return np.concatenate([_WHOLE, np.concatenate([corners, area[:, None]], axis=1)])


def _stack(rows: list[Array], k: int, dtype: np.dtype[np.generic]) -> Array:
    """Rows of up to k columns as one matrix; what is missing is 0."""
    stacked = np.zeros((sum(len(row) for row in rows), k), dtype)
    start = 0
    for row in rows:
        stacked[start : start + len(row), : row.shape[1]] = row
        start += len(row)
    return stacked


class Steps(Dataset[Sequence[Batch]]):
    """The micro-batches of one rank, step by step."""

    def __init__(self, plan: BatchPlan, collator: Collator, *, rank: int, ranks: int, accumulation: int) -> None:
        self._plan, self._collator = plan, collator
        self._rank, self._ranks, self._accumulation = rank, ranks, accumulation

    def pairs(self, step: int) -> list[Pairs]:
        """The pairs of each micro-batch."""
        batch = self._plan.batch(step)
        parts = micro_batches(
            self._plan.tokens(batch), rank=self._rank, ranks=self._ranks, accumulation=self._accumulation
        )
        return [batch.take(part) for part in parts]

    def __getitem__(self, step: int) -> list[Batch]:
        return [self._collator(pairs) for pairs in self.pairs(step)]
