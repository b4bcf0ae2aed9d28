"""Makes the false captions of a picture: what can be tried, in an order that chance decides, and what is kept."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain

from parsers.graph import SceneGraph
from pipeline.negatives.edits import Edit, FalseCaption, apply_edit
from pipeline.negatives.lexicon import Lexicon
from pipeline.negatives.picture import Picture
from pipeline.negatives.replacements import (
    add_attributes,
    replace_attributes,
    replace_numbers,
    replace_objects,
    replace_relations,
)
from pipeline.negatives.swaps import swap_attributes, swap_objects

Tried = tuple[str, str, Edit]
"""The word that is replaced, the one in its place, and the edit. Two words that change places are the first two."""
Frequencies = Mapping[str, int]
"""How often the captions of a corpus have each name of the lexicon."""


def make_false_captions(
    picture: Picture,
    caption: int,
    kinds: Sequence[str],
    per_kind: int,
    frequencies: Frequencies,
    key: str,
    lexicon: Lexicon,
) -> list[FalseCaption]:
    """Makes false captions of one of a picture's captions, by kind.

    Args:
        picture: all captions of the picture.
        caption: the number of the caption.
        kinds: the kinds to make, of `shards.schema.NEGATIVE_KINDS`.
        per_kind: at most so many of each kind.
        frequencies: of the corpus.
        key: decides by chance what is made; the same key makes the same.
        lexicon: which words may take each other's place.
    """
    graph = picture.graphs[caption]
    tried: dict[str, list[Tried]] = {kind: [] for kind in kinds}
    for one in _list_edits(graph, picture, lexicon):
        if one[2].kind in tried:
            tried[one[2].kind].append(one)
    texts = {other.caption.casefold() for other in picture.graphs}
    found: list[FalseCaption] = []
    for options in tried.values():
        kept = 0
        for edit in _order(options, frequencies, key, lexicon.relations.last_names):
            if kept == per_kind:
                break
            try:
                false = apply_edit(graph, edit)
            except ValueError:  # overlapping words
                continue
            if false.graph.caption.casefold() not in texts and not picture.may_show(graph, false.graph):
                texts.add(false.graph.caption.casefold())
                found.append(false)
                kept += 1
    return found


def _list_edits(graph: SceneGraph, picture: Picture, lexicon: Lexicon) -> Iterator[Tried]:
    replacing: tuple[Callable[[SceneGraph, Picture, Lexicon], Iterator[Tried]], ...] = (
        replace_objects,
        replace_attributes,
        replace_relations,
        replace_numbers,
        add_attributes,
    )
    return chain(
        swap_objects(graph, lexicon),
        swap_attributes(graph, lexicon),
        chain.from_iterable(make(graph, picture, lexicon) for make in replacing),
    )


def _order(options: Sequence[Tried], frequencies: Frequencies, key: str, last: Collection[str]) -> list[Edit]:
    """Returns the edits in random order, those first whose new word is about as frequent as the old one.

    Of the edits that change the same words, the half with the nearest frequencies comes before the other half.
    Those with a new word of ``last`` come after all others.
    """
    by_words: dict[tuple[int, ...], list[Tried]] = {}
    for one in options:
        by_words.setdefault(tuple(change.start for change in one[2].changes), []).append(one)
    placed: list[tuple[bool, bool, bytes, Edit]] = []
    for group in by_words.values():
        gaps = [abs(math.log((1 + frequencies.get(new, 0)) / (1 + frequencies.get(old, 0)))) for old, new, _ in group]
        middle = sorted(gaps)[(len(gaps) - 1) // 2]
        for (_, new, edit), gap in zip(group, gaps, strict=True):
            start = edit.changes[0].start
            digest = hashlib.blake2b(f"{key}\0{edit.kind}\0{start}\0{new}".encode(), digest_size=8).digest()
            placed.append((new in last, gap > middle, digest, edit))
    return [edit for *_, edit in sorted(placed, key=lambda one: one[:3])]
