"""More captions made of gold ones: two of them joined, or a noun phrase of one put into another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parsers.neural.tokenizer import TokenizedCaption
from parsers.train.alignment import AlignedAttribute, AlignedGraph, AlignedRelation, Phrase
from parsers.train.examples import TrainingExample, select_short

JOINTS = ("and", ".", ",", "while", "with", "as", ";")
"""What may stand between two captions that are joined."""
SPLICES = 2
"""Number of captions with a foreign phrase that are made of each gold one."""


def join_randomly(examples: Sequence[TrainingExample], share: float, rng: np.random.Generator) -> list[TrainingExample]:
    """Returns longer captions, each made of two random ones.

    Args:
        share: how many to make for each example.
    """
    count = int(share * len(examples))
    pairs = rng.integers(len(examples), size=(count, 2)).tolist()
    joints = rng.integers(len(JOINTS), size=count).tolist()
    return [join_captions(examples[a], JOINTS[j], examples[b]) for (a, b), j in zip(pairs, joints, strict=True)]


def join_captions(first: TrainingExample, joint: str, second: TrainingExample) -> TrainingExample:
    """Joins two captions with a word between them; both graphs stay, and no node joins them.

    Such captions teach that words far apart seldom belong together.
    """
    shift = len(first.words) + 1
    words = TokenizedCaption(
        [*first.words.forms, joint, *second.words.forms], [*first.words.offsets, *second.words.offsets]
    )
    assert first.graph is not None
    assert second.graph is not None
    a, b = first.graph, _shift_graph(second.graph, shift)
    graph = AlignedGraph(
        (*a.objects, *b.objects), (*a.attributes, *b.attributes), (*a.relations, *b.relations), missing=()
    )
    hidden = None
    if first.hidden is not None and second.hidden is not None:
        hidden = first.hidden | {word + shift for word in second.hidden}
    return TrainingExample(words, graph, hidden=hidden)


def _shift_graph(graph: AlignedGraph, shift: int) -> AlignedGraph:
    def move(phrase: Phrase) -> Phrase:
        return Phrase(phrase.first + shift, phrase.last + shift)

    return AlignedGraph(
        tuple((move(phrase), name) for phrase, name in graph.objects),
        tuple(AlignedAttribute(move(a.phrase), a.object + shift, a.label) for a in graph.attributes),
        tuple(
            AlignedRelation(
                r.anchor + shift, tuple(i + shift for i in r.words), r.subject + shift, r.object + shift, r.label
            )
            for r in graph.relations
        ),
        graph.missing,
    )


def splice_randomly(examples: Sequence[TrainingExample]) -> list[TrainingExample]:
    """Returns `SPLICES` captions for each example, each with a phrase of a random other one; long ones are left out."""
    found = []
    for seed in range(SPLICES):
        rng = np.random.default_rng(seed)
        others = rng.permutation(len(examples)).tolist()
        found += [splice_phrase(example, examples[i], rng) for example, i in zip(examples, others, strict=True)]
    return select_short(found)


def splice_phrase(first: TrainingExample, second: TrainingExample, rng: np.random.Generator) -> TrainingExample:
    """Replaces a random noun phrase of the first caption by one of the second; teachers read the result.

    At the end of the first caption, everything behind the phrase in the second one comes along.
    """
    (start, end), (begin, stop) = (_choose_noun_phrase(example, rng) for example in (first, second))
    if end == len(first.words):
        stop = len(second.words)
    words = TokenizedCaption(
        [*first.words.forms[:start], *second.words.forms[begin:stop], *first.words.forms[end:]],
        [*first.words.offsets[:start], *second.words.offsets[begin:stop], *first.words.offsets[end:]],
    )
    return TrainingExample(words, None, 0.0)


def _choose_noun_phrase(example: TrainingExample, rng: np.random.Generator) -> tuple[int, int]:
    """Returns where a random object with the attributes before it starts and ends; (0, 0) if there is no object."""
    assert example.graph is not None
    if not example.graph.objects:
        return 0, 0
    noun, _ = example.graph.objects[rng.integers(len(example.graph.objects))]
    before = {a.phrase.last: a.phrase.first for a in example.graph.attributes if a.object == noun.last}
    start = noun.first
    while start - 1 in before:
        start = before[start - 1]
    return start, noun.last + 1
