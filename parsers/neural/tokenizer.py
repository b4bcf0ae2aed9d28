"""The tokenizer of the neural parser: words, punctuation marks and possessive endings, with their offsets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

_WORD = re.compile(r"['’]s\b|[^\W_]+|[^\w\s]|_", re.IGNORECASE)

MAX_WORDS = 512
"""The rest of a longer text is not parsed: memory grows with the square of the length."""

MAX_LETTERS = 100
"""The rest of a longer word is not read: its span is whole, but what is remembered of words is bounded."""


@dataclass(frozen=True, slots=True)
class TokenizedCaption:
    """The words of a caption. Its length is the number of words."""

    forms: Sequence[str]
    """the words in lower case, as the network reads them"""
    offsets: Sequence[tuple[int, int]]
    """for each word, its first character in the caption and the one behind its last"""

    def __len__(self) -> int:
        return len(self.forms)


def tokenize(caption: str) -> TokenizedCaption:
    """Returns the first `MAX_WORDS` words of the caption; "man’s" becomes "man" and "'s"."""
    matches = list(islice(_WORD.finditer(caption), MAX_WORDS))
    forms = [match.group().lower()[:MAX_LETTERS] for match in matches]
    if "’s" in forms:
        forms = ["'s" if form == "’s" else form for form in forms]
    return TokenizedCaption(forms, [match.span() for match in matches])


def group_by_length(captions: Iterable[TokenizedCaption]) -> dict[int, list[int]]:
    """Returns for each length the numbers of the captions with so many words, both in order of appearance."""
    by_length: dict[int, list[int]] = {}
    for i, words in enumerate(captions):
        by_length.setdefault(len(words), []).append(i)
    return by_length
