"""More captions made of gold ones: two joined, or a noun phrase of one put into another."""

from __future__ import annotations

import numpy as np

from parsers.neural.words import Words
from parsers.train.alignment import Aligned, AlignedAttribute, AlignedRelation, Phrase
from parsers.train.learning import Example


def joined(first: Example, joint: str, second: Example) -> Example:
    """One longer caption of two, with both graphs; it teaches that far words seldom belong together."""
    shift = len(first.words) + 1
    words = Words([*first.words.forms, joint, *second.words.forms], [*first.words.places, *second.words.places])

    def move(phrase: Phrase) -> Phrase:
        return Phrase(phrase.first + shift, phrase.last + shift)

    a, b = first.graph, second.graph
    assert a is not None
    assert b is not None
    return Example(
        words,
        Aligned(
            (*a.objects, *((move(phrase), name) for phrase, name in b.objects)),
            (*a.attributes, *(AlignedAttribute(move(n.phrase), n.object + shift, n.label) for n in b.attributes)),
            (
                *a.relations,
                *(
                    AlignedRelation(
                        r.anchor + shift,
                        tuple(i + shift for i in r.words),
                        r.subject + shift,
                        r.object + shift,
                        r.label,
                    )
                    for r in b.relations
                ),
            ),
            (),
        ),
    )


def spliced(first: Example, second: Example, rng: np.random.Generator) -> Example:
    """The first caption with one of its noun phrases taken from the second: text for teachers to read.

    At the end of the caption, what follows the phrase in the second one comes along.
    """
    (start, end), (begin, stop) = (_noun_phrase(example, rng) for example in (first, second))
    if end == len(first.words):
        stop = len(second.words)
    words = Words(
        [*first.words.forms[:start], *second.words.forms[begin:stop], *first.words.forms[end:]],
        [*first.words.places[:start], *second.words.places[begin:stop], *first.words.places[end:]],
    )
    return Example(words, None, 0.0)


def _noun_phrase(example: Example, rng: np.random.Generator) -> tuple[int, int]:
    """Where a random object with the attributes before it stands; an empty place if there is no object."""
    assert example.graph is not None
    if not example.graph.objects:
        return 0, 0
    noun, _ = example.graph.objects[rng.integers(len(example.graph.objects))]
    before = {a.phrase.last: a.phrase.first for a in example.graph.attributes if a.object == noun.last}
    start = noun.first
    while start - 1 in before:
        start = before[start - 1]
    return start, noun.last + 1
