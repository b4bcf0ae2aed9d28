"""Cuts a text into sentences, each a caption of its own for the network."""

from __future__ import annotations

import re
from itertools import pairwise

_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|\n\s*\n|(?<=[a-z0-9][.!?])(?=[A-Z][a-z])")
"""Where a sentence may end: behind its last mark, at an empty line, or where a blank was forgotten."""
_ABBREVIATION = re.compile(
    r"(?:^|[^\w.])(?:mr|mrs|ms|dr|st|mt|jr|sr|vs|no|approx|ca|e\.g|i\.e|[a-z]|(?:[a-z]\.)+[a-z])\.$", re.IGNORECASE
)
_MARK = re.compile(r"[.!?…\n]")
_BEFORE = 12
"""Characters before a full stop that are searched for an abbreviation."""


def find_sentences(text: str) -> list[tuple[int, int]]:
    """Returns the first character of each sentence and the one behind its last, without the blanks around it.

    A full stop behind an abbreviation or an initial ends a sentence only at the end of the text. A text without any
    mark is one sentence, and a blank text has none.
    """
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    if not _MARK.search(text, first, max(first, last - 1)):
        return [(first, last)] if any(map(str.isalnum, text)) else []
    cuts = [0]
    for match in _END.finditer(text):
        end = match.end()
        if match.group() != "." or not _ABBREVIATION.search(text[max(0, end - _BEFORE) : end]):
            cuts.append(end)
    cuts.append(len(text))
    found = []
    for start, end in pairwise(cuts):
        sentence = text[start:end]
        inside = sentence.strip()
        if any(map(str.isalnum, inside)):
            first = start + len(sentence) - len(sentence.lstrip())
            found.append((first, first + len(inside)))
    return found
