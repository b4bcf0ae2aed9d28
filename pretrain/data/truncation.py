"""How texts of several segments are cut to the room that there is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shards.schema import Array


def truncate_lengths(lengths: Sequence[int] | Array, most: int) -> Array:
    """Shortens the longest segment by one piece, again and again, until all together have at most ``most`` pieces.

    Of equally long segments the last one is shortened. The released code has this rule for the two segments of VCR.

    Example: segments of 9, 4 and 9 pieces in 15 become 6, 4 and 5.

    Args:
        lengths: pieces of each segment.
        most: 0 or more.

    Returns:
        int64 [segments].
    """
    kept = np.array(lengths, np.int64)
    while kept.sum() > most:
        kept[len(kept) - 1 - kept[::-1].argmax()] -= 1
    return kept
