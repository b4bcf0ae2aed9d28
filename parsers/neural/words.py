"""The light tokenizer of the neural parser: words, punctuation marks and possessive endings with their places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

_WORD = re.compile(r"['’]s\b|[^\W_]+|[^\w\s]|_", re.IGNORECASE)

MAX_WORDS = 512
"""What follows is not parsed: memory grows with the square of the length."""


@dataclass(frozen=True, slots=True)
class Words:
    """A caption's words: the lower-case forms that the network reads, and where each stands in the caption."""

    forms: Sequence[str]
    places: Sequence[tuple[int, int]]
    """start and end, in characters"""

    def __len__(self) -> int:
        return len(self.forms)


def split(caption: str) -> Words:
    """The first `MAX_WORDS` words of the caption."""
    matches = list(islice(_WORD.finditer(caption), MAX_WORDS))
    forms = [match.group().lower() for match in matches]
    if "’s" in forms:
        forms = ["'s" if form == "’s" else form for form in forms]
    return Words(forms, [match.span() for match in matches])
