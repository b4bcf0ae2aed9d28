"""Batches of pretraining: pairs are read, masked and padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pretrain.data.bucketing import micro_batches
from pretrain.data.masking import MaskedText, SpecialTokens, ask_words, mask_regions, mask_text
from pretrain.data.order import BatchPlan
from pretrain.data.padding import copy_to, pad_images, pad_texts
from pretrain.data.pairs import Pairs
from pretrain.model.config import RegionTarget
from pretrain.recipe import Masking, PretrainRecipe, ShownImage
from shards.boxes import WHOLE_IMAGE, locate_boxes
from shards.random_numbers import generator
from shards.sample_reader import SampleReader
from shards.schema import Array, Masks, NegativeMasks, Regions

_MASKS = 1 << 32
"""Keeps the random numbers of masks apart from those of the order."""
_WHOLE = 2 << 32
"""Keeps those that say which pairs are shown without masks apart from both."""


@dataclass(frozen=True, slots=True)
class PretrainBatch:
    """A micro-batch: B pairs of T text positions and R image rows, N text targets and M region targets."""

    token_ids: Tensor  # int64 [B, T]
    position_ids: Tensor  # int64 [B, T]
    segment_ids: Tensor  # int64 [B, T]
    text_mask: Tensor | None  # bool [B, T]; None where no text is padded
    features: Tensor  # float32 or bfloat16 [B, R, d]; row 0 is the whole image
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
    match_targets: Tensor  # int64 [K], the pairs that are asked whether they match
    token_targets: Tensor  # int64 [L], sample * T + position
    token_labels: Tensor  # float32 [L], 1 for a word that is false

    def inputs(self) -> dict[str, Tensor | None]:
        """Returns the arguments of `pretrain.model.heads.ErnieViLForPreTraining.forward`."""
        names = ("token_ids", "position_ids", "segment_ids", "text_mask", "features", "locations", "image_mask")
        return {name: getattr(self, name) for name in (*names, "text_targets", "region_targets", "token_targets")}

    def samples(self) -> int:
        """Counts the pairs."""
        return len(self.matched)

    def tokens(self) -> int:
        """Counts the text positions that are no padding."""
        return self.token_ids.numel() if self.text_mask is None else int(self.text_mask.sum())

    def to(self, device: torch.device) -> PretrainBatch:
        """Returns the same batch on a device. A mask that is None stays None.

        The copy to a GPU is asynchronous; later work on its current stream waits for it.
        """
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: copy_to(t, device) for n, t in tensors.items() if t is not None})


class Collator:
    """Turns pairs into batches. What is masked follows from (seed, epoch, sample, caption) alone."""

    def __init__(
        self,
        shards: SampleReader,
        *,
        seed: int,
        max_text: int,
        masking: Masking,
        region_target: RegionTarget = "distribution",
        images: ShownImage,
        device_type: str,
        dtype: torch.dtype = torch.float32,
        token_match: bool = False,
    ) -> None:
        """Takes what it reads and how it masks.

        Args:
            shards: to read from.
            seed: decides on all that is random.
            max_text: text positions that a caption is cut to.
            masking: what is hidden how often.
            region_target: what is predicted of a region.
            images: which image is shown with a caption.
            device_type: where the batches are used; sequences are padded for it.
            dtype: of the features, which the model rounds to its own type in any case.
            token_match: whether it is asked which words are false.
        """
        self._shards = shards
        self._special = SpecialTokens.of(shards.vocabulary)
        self._seed = seed
        self._max_text = max_text
        self._masking = masking
        self._region_target = region_target
        self._images = images
        self._device_type = device_type
        self._dtype = dtype
        self._token_match = token_match

    @classmethod
    def of(cls, recipe: PretrainRecipe, shards: SampleReader, device_type: str) -> Collator:
        """Returns the collator that a recipe trains with.

        Features for a GPU have the type of the model, because nearly all bytes of a batch are theirs.
        """
        half = device_type == "cuda" and recipe.precision == "bf16"
        return cls(
            shards,
            seed=recipe.seed,
            max_text=recipe.max_text,
            masking=recipe.active_masking,
            region_target=recipe.region_target,
            images=recipe.images,
            device_type=device_type,
            dtype=torch.bfloat16 if half else torch.float32,
            token_match=recipe.active_weights.token_match > 0,
        )

    def __call__(self, pairs: Pairs) -> PretrainBatch:
        """Reads and masks pairs. Without images, each pair has one image row of zeros."""
        texts, images, words = [], [], []
        hidden = (pairs.matched | (self._images == "none")) & ~self._choose_whole(pairs)
        for number in range(len(pairs)):
            shard, row, caption = pairs.text[number].tolist()
            random = generator(self._seed, int(pairs.visit[number]), shard + _MASKS, row, caption)
            negatives = self._shards.negative_masks(shard, row) if pairs.negative[number] else None
            masks = self._shards.masks(shard, row) if negatives is None else negatives.masks
            texts.append(
                mask_text(
                    masks,
                    caption,
                    matched=bool(hidden[number]),
                    max_text=self._max_text,
                    settings=self._masking,
                    special=self._special,
                    random=random,
                )
            )
            words.append(
                self._ask_words(masks, caption, negatives, asked=bool(pairs.matched[number] & ~hidden[number]))
            )
            source = (number + 1) % len(pairs) if self._images == "other" else number
            image_shard, image_row = pairs.image[source].tolist()
            masked = hidden[number] and self._images == "own"
            images.append(self._image(image_shard, image_row, random if masked else None))
        asked = np.flatnonzero(~hidden) if self._masking.whole else np.arange(len(pairs))
        return self._pad(texts, images, pairs.matched, asked, words)

    def _choose_whole(self, pairs: Pairs) -> Array:
        """bool [n]: which pairs are shown without masks if they match. It follows from what the masks follow from."""
        if not self._masking.whole:
            return np.zeros(len(pairs), bool)
        places = zip(pairs.visit.tolist(), pairs.text.tolist(), strict=True)
        draws = [generator(self._seed, visit, shard + _WHOLE, row, caption) for visit, (shard, row, caption) in places]
        return np.array([random.random() < self._masking.whole for random in draws], bool)

    def _ask_words(
        self, masks: Masks, caption: int, negatives: NegativeMasks | None, *, asked: bool
    ) -> tuple[Array, Array]:
        """Positions of words that are asked about, and answers: of false captions, and of true ones if ``asked``."""
        if not self._token_match or not (asked or negatives is not None):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        pieces = int(np.diff(masks.token_offsets[caption : caption + 2])[0])
        changed = np.zeros(pieces, bool) if negatives is None else negatives.changed_of(caption)
        return ask_words(masks, caption, changed, max_text=self._max_text, special=self._special)

    def collate(self, texts: list[MaskedText], images: Array) -> PretrainBatch:
        """Pads texts that are masked already. Their images are shown without masks.

        Args:
            texts: n texts.
            images: int64 [n, 2], shard and row of the image of each text.
        """
        whole = [self._image(shard, row, None) for shard, row in images.tolist()]
        nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return self._pad(texts, whole, np.ones(len(texts), bool), np.arange(len(texts)), [nothing] * len(texts))

    def _image(self, shard: int, row: int, random: np.random.Generator | None) -> _Image:
        """Reads an image, and masks it if there are random numbers for that."""
        d = self._shards.feature_size
        if self._images == "none":
            return _Image(np.zeros((1, d), np.float32), WHOLE_IMAGE, *_NO_TARGETS)
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
        return _Image(features, locate_boxes(regions.boxes, width, height), *targets)

    def _pad(
        self,
        texts: list[MaskedText],
        images: list[_Image],
        matched: Array,
        asked: Array,
        words: list[tuple[Array, Array]],
    ) -> PretrainBatch:
        """Pads pairs.

        Args:
            texts, images: of the pairs.
            matched: bool [B].
            asked: int64 [K], the pairs that are asked whether they match.
            words: for each pair the positions that are asked about, and the answers.
        """
        feature_size = self._shards.feature_size
        padded_texts = pad_texts(texts, pad=self._special.pad, device_type=self._device_type)
        padded_images = pad_images(images, feature_size=feature_size, device_type=self._device_type)
        t, r = padded_texts.token_ids.shape[1], padded_images.features.shape[1]
        classes = max((image.class_ids.shape[1] for image in images), default=0)
        predicted = feature_size if self._region_target == "features" else 0
        return PretrainBatch(
            *padded_texts,
            *padded_images._replace(features=padded_images.features.to(self._dtype)),
            text_targets=_join([i * t + text.targets for i, text in enumerate(texts)]),
            text_labels=_join([text.labels for text in texts]),
            text_kinds=_join([text.kinds for text in texts]),
            region_targets=_join([i * r + image.targets for i, image in enumerate(images)]),
            region_class_ids=_join_rows([image.class_ids for image in images], classes, np.dtype(np.int64)),
            region_class_probs=_join_rows([image.class_probs for image in images], classes, np.dtype(np.float32)),
            region_features=_join_rows([image.target_features for image in images], predicted, np.dtype(np.float32)),
            matched=torch.from_numpy(matched.astype(np.float32)),
            match_targets=torch.from_numpy(asked),
            token_targets=_join([i * t + positions for i, (positions, _) in enumerate(words)]),
            token_labels=torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *(labels for _, labels in words)])),
        )


@dataclass(frozen=True, slots=True)
class _Image:
    features: Array
    locations: Array
    targets: Array
    class_ids: Array
    class_probs: Array
    target_features: Array


_NO_COLUMNS = np.zeros((0, 0))
_NO_TARGETS = np.zeros(0, np.int64), _NO_COLUMNS, _NO_COLUMNS, _NO_COLUMNS


def _region_targets(regions: Regions, taken: Array, target: RegionTarget) -> tuple[Array, Array, Array, Array]:
    """Returns image rows, class ids, class probabilities and features of the regions to predict.

    What the kind of target does not use has no columns.

    Args:
        regions: of the image.
        taken: int64 [M], the regions to predict.
        target: what is predicted of a region.
    """
    rows, unused = taken + 1, np.zeros((len(taken), 0))
    if target == "features":
        return rows, unused, unused, regions.features[taken]
    if regions.class_ids is None or regions.class_probs is None:
        return _NO_TARGETS
    if target == "argmax":  # the divergence from all in one class is the cross-entropy
        return rows, regions.class_ids[taken, :1], np.ones((len(taken), 1)), unused
    return rows, regions.class_ids[taken], regions.class_probs[taken], unused


def _join(parts: list[Array]) -> Tensor:
    """int64: the parts one after the other; there may be none."""
    return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *parts]))


def _join_rows(parts: list[Array], columns: int, dtype: np.dtype[np.generic]) -> Tensor:
    """The rows of all parts as one matrix. A part with fewer columns than ``columns`` has zeros in the others."""
    joined = np.zeros((sum(len(part) for part in parts), columns), dtype)
    start = 0
    for part in parts:
        joined[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return torch.from_numpy(joined)


class StepDataset(Dataset[Sequence[PretrainBatch]]):
    """The micro-batches of one rank, step by step."""

    def __init__(self, plan: BatchPlan, collator: Collator, *, rank: int, ranks: int, accumulation: int) -> None:
        self._plan, self._collator = plan, collator
        self._rank, self._ranks, self._accumulation = rank, ranks, accumulation

    def pairs(self, step: int) -> list[Pairs]:
        """Returns the pairs of each micro-batch of a step."""
        batch = self._plan.batch(step)
        parts = micro_batches(
            self._plan.measure(batch).tokens, rank=self._rank, ranks=self._ranks, accumulation=self._accumulation
        )
        return [batch.take(part) for part in parts]

    def __getitem__(self, step: int) -> list[PretrainBatch]:
        return [self._collator(pairs) for pairs in self.pairs(step)]
