"""How long the texts and pictures of a batch are made."""

from __future__ import annotations

from collections.abc import Collection


def padded_length(lengths: Collection[int], device_type: str) -> int:
    """How long the sequences of a batch become, of which there may be none.

    On CUDA they are padded to a multiple of 8, with which masked attention is at its fastest. Sequences of equal length
    are not padded there, either: without a mask, flash and cuDNN attention can run, and these take any length.

    Examples: on CUDA, lengths 12, 9 become 16, and 37, 37 stay 37; on a CPU, 12, 9 become 12.
    """
    longest = max(lengths, default=1)
    return longest if device_type != "cuda" or all(n == longest for n in lengths) else -(-longest // 8) * 8
