"""What the parsers over spaCy share: how a caption goes in, and how tokens become spans of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from spacy.tokens import Token

from parsers.graph import Span

NOUNS = frozenset(("NOUN", "PROPN"))
"""Parts of speech that may name a thing."""

MODIFIERS = frozenset(("compound", "nmod", "amod", "npadvmod"))
"""Dependency labels of the words before a noun. spaCy gives them to some verbs' subjects too, where captions leave out
articles."""

MAX_CHARACTERS = 20_000
"""More is no caption, and spaCy's memory grows with the length: what follows is not parsed."""

LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def readable(caption: str) -> str:
    """The caption as spaCy accepts it: a lone surrogate is an error there. Every character stays in its place."""
    return LONE_SURROGATES.sub("\ufffd", caption[:MAX_CHARACTERS])


def spans(tokens: Iterable[Token], offset: int = 0) -> tuple[Span, ...]:
    """The tokens' places in the caption, in order; neighbours share a span.

    Args:
        tokens: tokens of one document, in any order.
        offset: how many characters the document has before the caption.
    """
    runs: list[list[Token]] = []
    for token in sorted(set(tokens), key=lambda token: token.i):
        if runs and runs[-1][-1].i + 1 == token.i:
            runs[-1].append(token)
        else:
            runs.append([token])
    return tuple(Span(run[0].idx - offset, run[-1].idx + len(run[-1]) - offset) for run in runs)
