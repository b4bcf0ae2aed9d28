"""Shared by the parsers over spaCy: how a caption goes into spaCy, and how tokens become spans of the caption."""

from __future__ import annotations

import re
from collections.abc import Iterable

from spacy.tokens import Token

from parsers.graph import Span, list_runs

NOUNS = frozenset(("NOUN", "PROPN"))
"""Parts of speech that may name a thing."""

MODIFIERS = frozenset(("compound", "nmod", "amod", "npadvmod"))
"""Dependency labels of the words before a noun.

Where a caption leaves out articles, spaCy gives these labels to some subjects of verbs, too.
"""

MAX_CHARACTERS = 20_000
"""The rest of a longer text is not parsed: no caption is that long, and spaCy's memory grows with the length."""

LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def prepare_caption(caption: str) -> str:
    """Returns the caption as spaCy accepts it: cut to a length, and without lone surrogates.

    Every character stays in its place; U+FFFD stands for each lone surrogate.
    """
    return LONE_SURROGATES.sub("\ufffd", caption[:MAX_CHARACTERS])


def find_spans(tokens: Iterable[Token], offset: int = 0) -> tuple[Span, ...]:
    """Returns where the tokens stand in the caption, in order. Neighbouring tokens share a span.

    Args:
        tokens: tokens of one document, in any order.
        offset: how many characters of the document come before the caption.
    """
    by_place = {token.i: token for token in tokens}
    runs = [(by_place[first], by_place[last]) for first, last in list_runs(sorted(by_place))]
    return tuple(Span(first.idx - offset, last.idx + len(last) - offset) for first, last in runs)
