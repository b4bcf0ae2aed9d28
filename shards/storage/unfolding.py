"""Refuses files that unfold to far more bytes than they hold, before they fill the memory."""

from __future__ import annotations

from parsers.command import InputError
from shards.storage.files import AnyPath

MAX_BYTES = 1 << 28
"""Whatever a file holds, it may unfold to this many bytes."""
MAX_TIMES = 100
"""A large file may unfold to this many times what it holds. Captions and features do so ten times at most."""


def limit_unfolding(held: int) -> int:
    """The most bytes to which ``held`` bytes of a file may unfold."""
    return max(MAX_BYTES, MAX_TIMES * held)


def check_unfolding(name: AnyPath | str, unfolded: int, held: int) -> None:
    """Checks what a file, or what is read of it at once, unfolds to.

    Raises:
        InputError: ``unfolded`` is more than `limit_unfolding` allows.
    """
    if unfolded > limit_unfolding(held):
        raise InputError(
            f"{name}: {held:,} bytes of it unfold to {unfolded:,} or more, and at most {limit_unfolding(held):,} are "
            "read; real data unfolds to ten times its size, so write the file again"
        )
