"""Texts and images of unequal length as tensors: pretraining and fine-tuning pad alike.

Shape suffixes are those of `pretrain.model.encoder`: B pairs, T text positions, R image rows, F feature size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from shards.schema import Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# PyTorch is imported in the functions that need it: `pretrain.plan` asks for lengths alone, and should answer at once.


class PaddableText(Protocol):
    """A text as the model sees it."""

    @property
    def token_ids(self) -> Array:
        """int64 [T], [CLS] first."""
        ...

    @property
    def segment_ids(self) -> Array:
        """int64 [T]."""
        ...


class PaddableImage(Protocol):
    """An image as the model sees it; row 0 is the whole image."""

    @property
    def features(self) -> Array:
        """float32 [R, F]."""
        ...

    @property
    def locations(self) -> Array:
        """float32 [R, 5]."""
        ...


class PaddedTexts(NamedTuple):
    """What the text stream takes. Padding has position 0, for it may lie beyond the last position of the model."""

    token_ids: Tensor  # int64 [B, T]
    position_ids: Tensor  # int64 [B, T]
    segment_ids: Tensor  # int64 [B, T]
    text_mask: Tensor | None  # bool [B, T], False for padding; None where no text is padded


class PaddedImages(NamedTuple):
    """What the image stream takes."""

    features: Tensor  # float32 [B, R, F]
    locations: Tensor  # float32 [B, R, 5]
    image_mask: Tensor | None  # bool [B, R], False for padding; None where no image is padded


def pad_texts(texts: Sequence[PaddableText], *, pad: int, device_type: str) -> PaddedTexts:
    """Pads texts with the id ``pad`` to one length (see `padded_length`)."""
    lengths = [len(text.token_ids) for text in texts]
    t = padded_length(lengths, device_type)
    shown = _shown(lengths, t)
    token_ids, segment_ids = np.full(shown.shape, pad, np.int64), np.zeros(shown.shape, np.int64)
    for row, text in enumerate(texts):
        token_ids[row, : lengths[row]] = text.token_ids
        segment_ids[row, : lengths[row]] = text.segment_ids
    position_ids = np.arange(t) * shown
    return PaddedTexts(_tensor(token_ids), _tensor(position_ids), _tensor(segment_ids), _mask(shown))


def pad_images(images: Sequence[PaddableImage], *, feature_size: int, device_type: str) -> PaddedImages:
    """Pads images with zeros to one number of rows (see `padded_length`)."""
    lengths = [len(image.features) for image in images]
    shown = _shown(lengths, padded_length(lengths, device_type))
    features = np.zeros((*shown.shape, feature_size), np.float32)
    locations = np.zeros((*shown.shape, 5), np.float32)
    for row, image in enumerate(images):
        features[row, : lengths[row]] = image.features
        locations[row, : lengths[row]] = image.locations
    return PaddedImages(_tensor(features), _tensor(locations), _mask(shown))


def padded_length(lengths: Collection[int], device_type: str) -> int:
    """Returns the length that the sequences of a batch are padded to; there may be no sequence.

    On CUDA they are padded to a multiple of 8, with which masked attention is at its fastest. Sequences of equal length
    are not padded there, either: without a mask, flash and cuDNN attention can run, and these take any length.

    Examples: on CUDA, lengths 12, 9 become 16, and 37, 37 stay 37; on a CPU, 12, 9 become 12.
    """
    longest = max(lengths, default=1)
    return longest if device_type != "cuda" or all(n == longest for n in lengths) else -(-longest // 8) * 8


def _shown(lengths: Sequence[int], longest: int) -> Array:
    """bool [B, longest]: where there is no padding."""
    shown: Array = np.arange(longest) < np.array(lengths, np.int64)[:, None]
    return shown


def _mask(shown: Array) -> Tensor | None:
    """The mask for attention. None where nothing is padded, because attention is faster without a mask."""
    return None if shown.all() else _tensor(shown)


def _tensor(array: Array) -> Tensor:
    import torch

    return torch.from_numpy(array)


def copy_to(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor on a device. A copy to a GPU goes through pinned memory, so that nobody waits for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
