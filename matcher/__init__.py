"""A matcher of your own photos and texts: `python -m matcher.train` makes one, and `Matcher` scores with it.

Modules here may import everything else, and nothing imports this package. Importing it imports nothing heavy.
Start reading at `train_matcher` in `chain`. `command` is the command for everything, `ernie-vil`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matcher.scorer import Matcher

__all__ = ["Matcher"]


def __getattr__(name: str) -> object:
    """Imports `Matcher` when it is asked for: PyTorch takes seconds."""
    if name == "Matcher":
        from matcher.scorer import Matcher

        return Matcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
