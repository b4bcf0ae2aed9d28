"""The light tokenizer of the neural parser: words, punctuation marks and possessive endings with their places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from parsers.graph import Span

_WORD = re.compile(r"['’]s\b|[^\W_]+|[^\w\s]|_", re.IGNORECASE)
# Fullwidth forms and ligatures aside, lower() keeps English text as long as it was; the place is kept in any case.

MAX_WORDS = 512
"""What follows is not parsed: memory grows with the square of the length."""


@dataclass(frozen=True, slots=True)
class Words:
    """A caption's words: the lower-case forms that the network reads, and where each stands in the caption."""

    forms: Sequence[str]
    places: Sequence[Span]

    def __len__(self) -> int:
        return len(self.forms)


def split(caption: str) -> Words:
    """The first `MAX_WORDS` words of the caption."""
    forms: list[str] = []
    places: list[Span] = []
    for match in _WORD.finditer(caption):
        if len(forms) == MAX_WORDS:
            break
        forms.append(match.group().lower().replace("’", "'"))
        places.append(Span(*match.span()))
    return Words(forms, places)
