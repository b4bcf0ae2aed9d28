"""The inputs of the model, which are the same for all tasks: texts in word pieces, images in regions, and batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from parsers.command import InputError
from pretrain.data.padding import copy_to, pad_images, pad_texts
from shards.boxes import WHOLE_IMAGE, locate_boxes
from shards.regions.table import RegionsRow
from shards.schema import Array

Inputs = dict[str, Tensor | None]
"""The keyword arguments of `pretrain.model.encoder.ErnieViL.forward`, or those of one stream."""


COCO_SPLITS = ("train2014", "val2014", "test2014", "test2015", "train2017", "val2017", "test2017")


class RegionSource(Protocol):
    """The regions of images by image id: `shards.regions.store.RegionStore`, or the lines of a released file."""

    feature_size: int
    """numbers that describe a region"""

    def __contains__(self, image_id: object) -> bool:
        """Says whether there are regions of the image."""
        ...

    def __getitem__(self, image_id: str) -> RegionsRow:
        """Returns the regions of the image, or raises KeyError where there are none."""
        ...


class JoinedRegions:
    """The regions of several splits, each of which has its own source."""

    def __init__(self, sources: Sequence[RegionSource]) -> None:
        """Joins the sources.

        Raises:
            InputError: the sources have features of different sizes.
        """
        self._sources = sources
        sizes = sorted({source.feature_size for source in sources})
        if len(sizes) > 1:
            raise InputError(
                f"the splits have features of sizes {sizes}; use the regions of one detector for all of them"
            )
        (self.feature_size,) = sizes

    def __contains__(self, image_id: object) -> bool:
        return any(image_id in source for source in self._sources)

    def __getitem__(self, image_id: str) -> RegionsRow:
        """Returns the regions of an image from the first source that has it, or raises KeyError if none has it."""
        for source in self._sources:
            if image_id in source:
                return source[image_id]
        raise KeyError(image_id)


class RegionsByCocoName:
    """Regions that are named as COCO names its pictures, read by COCO's numbers.

    Image 42 is ``42``, ``000000000042`` or, as in LXMERT's files, ``COCO_val2014_000000000042``.
    """

    def __init__(self, regions: RegionSource) -> None:
        self._regions, self.feature_size = regions, regions.feature_size

    def __contains__(self, image_id: object) -> bool:
        return self._find_name(str(image_id)) in self._regions

    def __getitem__(self, image_id: str) -> RegionsRow:
        return self._regions[self._find_name(image_id)]

    def _find_name(self, image_id: str) -> str:
        number = image_id.zfill(12)
        names = (image_id, number, *(f"COCO_{split}_{number}" for split in COCO_SPLITS))
        return next((name for name in names if name in self._regions), image_id)


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text as the model takes it."""

    token_ids: Array
    """int64 [T]; the first is [CLS]"""
    segment_ids: Array
    """int64 [T]: 0 in the first segment, 1 in the second"""


@dataclass(frozen=True, slots=True)
class ImageRows:
    """An image as the model takes it. Row 0 is the whole image, the others are its regions."""

    features: Array
    """float32 [R, d]"""
    locations: Array
    """float32 [R, 5]: x1/W, y1/H, x2/W, y2/H and the share of the image's area"""

    @classmethod
    def from_regions(cls, row: RegionsRow) -> ImageRows:
        """Puts the whole image before its regions. Its features are their mean, or zeros if there are no regions."""
        features = row.regions.features.astype(np.float32)
        whole = features.mean(0, keepdims=True) if len(features) else np.zeros((1, features.shape[1]), np.float32)
        return cls(np.concatenate([whole, features]), locate_boxes(row.regions.boxes, row.width, row.height))


class TextEncoder:
    """Cuts texts into word pieces and adds [CLS] and [SEP]."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.pad, self.cls, self.sep, self.mask = (
            _id(tokenizer, piece) for piece in ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
        )

    def tokenize(self, text: str) -> list[int]:
        """Returns the ids of a text's word pieces. A special token in it, such as "[SEP]", is read as plain text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode(self, text: str, max_text: int) -> TokenizedText:
        """Returns [CLS], the word pieces and [SEP]: at most ``max_text`` positions, the rest is cut off."""
        return self.encode_ids(self.tokenize(text), max_text)

    def encode_ids(self, pieces: Sequence[int], max_text: int) -> TokenizedText:
        """Returns the same for a text that is cut into word pieces already, given their ids."""
        ids = np.array([self.cls, *pieces[: max_text - 2], self.sep], np.int64)
        return TokenizedText(ids, np.zeros_like(ids))

    def encode_pair(self, first: Sequence[int], second: Sequence[int]) -> TokenizedText:
        """Returns [CLS], the first word pieces and [SEP] in segment 0, then the second ones and [SEP] in segment 1."""
        ids = np.array([self.cls, *first, self.sep, *second, self.sep], np.int64)
        return TokenizedText(ids, (np.arange(len(ids)) > len(first) + 1).astype(np.int64))


def _id(tokenizer: Tokenizer, piece: str) -> int:
    number = tokenizer.token_to_id(piece)
    assert number is not None, "`shards.vocabulary.read_vocabulary` refuses a vocabulary without it"
    return number


@dataclass(frozen=True)
class Sources:
    """The sources of a split's word pieces and regions. They also pad these to batches."""

    texts: TextEncoder
    images: RegionSource
    gold: RegionSource | None = None
    """regions of ground-truth boxes, where a task has them"""
    device_type: str = "cpu"
    """device of the model: how far a batch is padded depends on it"""

    def read_image(self, image_id: str) -> ImageRows:
        """Returns an image as the model takes it. One without regions is blank: a whole image of zeros."""
        if image_id in self.images:
            return ImageRows.from_regions(self.images[image_id])
        return ImageRows(np.zeros((1, self.images.feature_size), np.float32), WHOLE_IMAGE)

    def pad(self, texts: Sequence[TokenizedText], images: Sequence[ImageRows]) -> Inputs:
        """Pads pairs to the inputs of a batch. Text i is shown with image i."""
        return self.pad_texts(texts) | self.pad_images(images)

    def pad_texts(self, texts: Sequence[TokenizedText]) -> Inputs:
        """Pads B texts to T positions, as many as `pretrain.data.padding.padded_length` says.

        Returns:
            ``token_ids``, ``position_ids`` and ``segment_ids``, int64 [B, T] each, and ``text_mask`` bool [B, T], which
            is False for padding. ``text_mask`` is None if nothing is padded.
        """
        return pad_texts(texts, pad=self.texts.pad, device_type=self.device_type)._asdict()

    def pad_images(self, images: Sequence[ImageRows]) -> Inputs:
        """Pads B images with rows of zeros to R rows, as many as `pretrain.data.padding.padded_length` says.

        Returns:
            ``features`` float32 [B, R, d], ``locations`` float32 [B, R, 5] and ``image_mask`` bool [B, R], which is
            False for padding. ``image_mask`` is None if nothing is padded.
        """
        return pad_images(images, feature_size=self.images.feature_size, device_type=self.device_type)._asdict()


def move_inputs(inputs: Inputs, device: torch.device) -> Inputs:
    """Returns the inputs on another device."""
    return {name: None if tensor is None else copy_to(tensor, device) for name, tensor in inputs.items()}


@dataclass(frozen=True, slots=True)
class TaskBatch:
    """Some examples of a task: the inputs of the model, and the labels for the task's loss."""

    inputs: Inputs
    labels: dict[str, Tensor]

    def to(self, device: torch.device) -> TaskBatch:
        """Returns the same batch on another device."""
        labels = {name: copy_to(tensor, device) for name, tensor in self.labels.items()}
        return TaskBatch(move_inputs(self.inputs, device), labels)

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        return self._of("token_ids").device

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of pairs, text positions and image rows, padding included."""
        pairs, positions = self._of("token_ids").shape
        return pairs, positions, self._of("features").shape[1]

    def samples(self) -> int:
        """Returns the number of pairs."""
        return self.shape[0]

    def tokens(self) -> int:
        """Returns the number of text positions that are not padding."""
        mask = self.inputs["text_mask"]
        return self._of("token_ids").numel() if mask is None else int(mask.sum())

    def _of(self, name: str) -> Tensor:
        tensor = self.inputs[name]
        assert tensor is not None
        return tensor
