"""What all tasks feed to the model: texts cut into word pieces, images with their regions, and batches of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from parsers.command import InputError
from pretrain.data.padding import pad_images, pad_texts
from shards.boxes import WHOLE_IMAGE, locate_boxes
from shards.regions.table import RegionsRow
from shards.schema import Array

Inputs = dict[str, Tensor | None]
"""The keyword arguments of `pretrain.model.encoder.ErnieViL.forward`, or those of one stream."""


class Images(Protocol):
    """Regions by image id: `shards.regions.store.RegionStore`, or the lines of a released file."""

    feature_size: int

    def __contains__(self, image_id: object) -> bool:
        """Whether there are regions of the image."""
        ...

    def __getitem__(self, image_id: str) -> RegionsRow:
        """The regions; KeyError where there are none."""
        ...


class JoinedImages:
    """The regions of several splits, each with its own source."""

    def __init__(self, sources: Sequence[Images]) -> None:
        """Raises InputError if they have features of unequal size."""
        self._sources = sources
        sizes = sorted({source.feature_size for source in sources})
        if len(sizes) > 1:
            raise InputError(f"the splits have features of sizes {sizes}; take regions of one detector")
        (self.feature_size,) = sizes

    def __contains__(self, image_id: object) -> bool:
        return any(image_id in source for source in self._sources)

    def __getitem__(self, image_id: str) -> RegionsRow:
        """The regions of an image, from the first source that has it; KeyError where none has."""
        for source in self._sources:
            if image_id in source:
                return source[image_id]
        raise KeyError(image_id)


@dataclass(frozen=True, slots=True)
class Text:
    """A text as the model sees it."""

    token_ids: Array
    """int64 [T], [CLS] first"""
    segment_ids: Array
    """int64 [T]"""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the model sees it; row 0 is the whole image."""

    features: Array
    """float32 [R, d]"""
    locations: Array
    """float32 [R, 5]: x1/W, y1/H, x2/W, y2/H and the share of the image's area"""

    @classmethod
    def of(cls, row: RegionsRow) -> Image:
        """The regions of an image after their mean; zeros where there are none."""
        features = row.regions.features.astype(np.float32)
        whole = features.mean(0, keepdims=True) if len(features) else np.zeros((1, features.shape[1]), np.float32)
        return cls(np.concatenate([whole, features]), locate_boxes(row.regions.boxes, row.width, row.height))


class TextEncoder:
    """Texts to word pieces with [CLS] and [SEP]."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.pad, self.cls, self.sep = (_id(tokenizer, piece) for piece in ("[PAD]", "[CLS]", "[SEP]"))

    def pieces(self, text: str) -> list[int]:
        """The ids of a text's word pieces. Special tokens in it are not recognised."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def text(self, text: str, max_text: int) -> Text:
        """[CLS], the pieces, [SEP]; of a text longer than ``max_text`` positions the end is left out."""
        ids = np.array([self.cls, *self.pieces(text)[: max_text - 2], self.sep], np.int64)
        return Text(ids, np.zeros_like(ids))

    def pair(self, first: Sequence[int], second: Sequence[int]) -> Text:
        """[CLS], pieces, [SEP] in segment 0; pieces, [SEP] in segment 1."""
        ids = np.array([self.cls, *first, self.sep, *second, self.sep], np.int64)
        return Text(ids, (np.arange(len(ids)) > len(first) + 1).astype(np.int64))


def _id(tokenizer: Tokenizer, piece: str) -> int:
    number = tokenizer.token_to_id(piece)
    assert number is not None, "`shards.vocabulary.read_vocabulary` sees to it"
    return number


@dataclass(frozen=True)
class Sources:
    """Where a split's word pieces and regions come from, and how batches are padded."""

    texts: TextEncoder
    images: Images
    gold: Images | None = None
    """regions of ground-truth boxes, where a task has them"""
    device_type: str = "cpu"

    def image(self, image_id: str) -> Image:
        """An image as the model sees it; one without regions is blank."""
        if image_id in self.images:
            return Image.of(self.images[image_id])
        return Image(np.zeros((1, self.images.feature_size), np.float32), WHOLE_IMAGE)

    def pad(self, texts: Sequence[Text], images: Sequence[Image]) -> Inputs:
        """A batch of the model's inputs of pairs: text i is shown with image i."""
        return self.pad_texts(texts) | self.pad_images(images)

    def pad_texts(self, texts: Sequence[Text]) -> Inputs:
        """token_ids, position_ids and segment_ids int64 [B, T], 0 in padding; text_mask bool [B, T]."""
        return pad_texts(texts, pad=self.texts.pad, device_type=self.device_type)._asdict()

    def pad_images(self, images: Sequence[Image]) -> Inputs:
        """features float32 [B, R, d], locations float32 [B, R, 5], image_mask bool [B, R]."""
        return pad_images(images, feature_size=self.images.feature_size, device_type=self.device_type)._asdict()


@dataclass(frozen=True, slots=True)
class Batch:
    """Some examples of a task: what the model takes, and the labels that the task's loss takes."""

    inputs: Inputs
    labels: dict[str, Tensor]

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        move: Callable[[Tensor], Tensor] = lambda tensor: tensor.to(device, non_blocking=True)  # noqa: E731
        inputs = {name: None if tensor is None else move(tensor) for name, tensor in self.inputs.items()}
        return Batch(inputs, {name: move(tensor) for name, tensor in self.labels.items()})

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self._of("token_ids").device

    @property
    def shape(self) -> tuple[int, int, int]:
        """Pairs, text positions and image rows, with padding."""
        pairs, positions = self._of("token_ids").shape
        return pairs, positions, self._of("features").shape[1]

    def samples(self) -> int:
        """How many pairs there are."""
        return self.shape[0]

    def tokens(self) -> int:
        """Text positions that are no padding."""
        mask = self.inputs["text_mask"]
        return self._of("token_ids").numel() if mask is None else int(mask.sum())

    def _of(self, name: str) -> Tensor:
        tensor = self.inputs[name]
        assert tensor is not None
        return tensor
