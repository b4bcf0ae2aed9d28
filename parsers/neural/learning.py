"""What the network is trained on: aligned graphs as tensors, and the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from parsers.neural import labels as forms
from parsers.neural.alignment import Aligned, AlignedAttribute, AlignedRelation, Phrase
from parsers.neural.network import EDITS, Labels, Scores, triples
from parsers.neural.words import Words

IGNORED = -100
LEAST_WORD, LEAST_OTHER_WORD, LEAST_LABEL = 2, 3, 3
"""How often a word of gold captions, a word of other captions and a label must occur to be known."""
FREQUENT = 20
"""How often a word of gold captions must occur for another to be a misspelling of it."""


@dataclass(frozen=True, slots=True)
class Example:
    """A caption with its aligned graph."""

    words: Words
    graph: Aligned


def make_labels(gold: Sequence[Example], others: Sequence[Example]) -> Labels:
    """The vocabularies of a training set: labels come from gold graphs, words also from other captions."""
    words = Counter(form for example in gold for form in example.words.forms)
    more = Counter(form for example in others for form in example.words.forms)
    known = forms.vocabulary(words.elements(), [""], LEAST_WORD)
    also = forms.vocabulary((form for form in more.elements() if form.isalpha()), [], LEAST_OTHER_WORD)
    return Labels(
        tuple(dict.fromkeys((*known, *also))),
        forms.vocabulary((name for example in gold for _, _, name in _edits(example)), [forms.SAME], LEAST_LABEL),
        forms.vocabulary((name for example in gold for _, name in _relation_labels(example)), [""], LEAST_LABEL),
        sum(count >= FREQUENT for count in words.values()),
    )


def _edits(example: Example) -> Iterator[tuple[int, int, str]]:
    """(word, kind, edit)"""
    tokens = example.words.forms
    for phrase, name in example.graph.objects:
        yield phrase.last, 0, forms.edit(tokens[phrase.last], name.split()[-1].rpartition("-")[2])
    for attribute in example.graph.attributes:
        yield (
            attribute.phrase.last,
            1,
            forms.edit(tokens[attribute.phrase.last], attribute.label.split()[-1].rpartition("-")[2]),
        )
    for relation in example.graph.relations:
        parts_ = relation.label.split()
        if len(parts_) == len(relation.words):
            for word, part in zip(relation.words, parts_, strict=True):
                yield word, 2, forms.edit(tokens[word], part)


def _relation_labels(example: Example) -> Iterator[tuple[int, str]]:
    """(anchor, whole label, empty where its words give it)"""
    for relation in example.graph.relations:
        yield relation.anchor, "" if len(relation.label.split()) == len(relation.words) else relation.label


@dataclass(frozen=True, slots=True)
class Batch:
    """What is true of captions of equal length."""

    roles: Tensor
    """float32 [B, T, roles]"""
    attributes: Tensor
    """float32 [B, T, T]"""
    triples: Tensor
    """float32 [B, T, T, T]"""
    others: Tensor
    """float32 [B, T, T]: anchor -> other words, where `anchors`"""
    anchors: Tensor
    """bool [B, T]"""
    relations: Tensor
    """int64 [B, T], `IGNORED` where no relation is anchored"""
    edits: Tensor
    """int64 [B, T, kinds], `IGNORED` likewise"""


def collate(examples: Sequence[Example], labels: Labels) -> Batch:
    """What is true of examples of equal length."""
    size, length = len(examples), len(examples[0].words)
    edit_numbers = {edit: i for i, edit in enumerate(labels.edits)}
    relation_numbers = {name: i for i, name in enumerate(labels.relations)}
    roles = np.zeros((size, length, 3), np.float32)
    attributes = np.zeros((size, length, length), np.float32)
    cubes = np.zeros((size, length, length, length), np.float32)
    others = np.zeros((size, length, length), np.float32)
    anchors = np.zeros((size, length), bool)
    relations = np.full((size, length), IGNORED)
    edits = np.full((size, length, len(EDITS)), IGNORED)
    for b, example in enumerate(examples):
        for phrase, _ in example.graph.objects:
            roles[b, phrase.last, 0] = 1
            roles[b, phrase.first : phrase.last, 1] = 1
        for attribute in example.graph.attributes:
            attributes[b, attribute.phrase.last, attribute.object] = 1
            roles[b, attribute.phrase.first : attribute.phrase.last, 2] = 1
        for relation in example.graph.relations:
            cubes[b, relation.anchor, relation.subject, relation.object] = 1
            anchors[b, relation.anchor] = True
            others[b, relation.anchor, list(relation.words[:-1])] = 1
        for anchor, name in _relation_labels(example):
            relations[b, anchor] = relation_numbers.get(name, IGNORED)
        for word, kind, edit in _edits(example):
            edits[b, word, kind] = edit_numbers.get(edit, IGNORED)
    return Batch(*map(torch.from_numpy, (roles, attributes, cubes, others, anchors, relations, edits)))


def loss(scores: Scores, batch: Batch, weights: Tensor) -> Tensor:
    """The weighted sum over captions of the losses of all decisions.

    Args:
        weights: float32 [B]
    """
    size, length = scores.roles.shape[:2]
    total = _binary(scores.roles, batch.roles) + _binary(scores.attributes, batch.attributes)
    total = total + _binary(triples(scores), batch.triples)
    others = F.binary_cross_entropy_with_logits(scores.words, batch.others, reduction="none").sum(2)
    labels = F.cross_entropy(
        scores.relations.flatten(0, 1), batch.relations.flatten(), ignore_index=IGNORED, reduction="none"
    )
    edits = F.cross_entropy(scores.edits.flatten(0, 2), batch.edits.flatten(), ignore_index=IGNORED, reduction="none")
    total = total + (others * batch.anchors).sum(1) + labels.view(size, length).sum(1) + edits.view(size, -1).sum(1)
    return (weights * total).sum()


def _binary(scores: Tensor, targets: Tensor) -> Tensor:
    """[B]"""
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="none").flatten(1).sum(1)


def batches(pool: Sequence[Example], size: int, rng: np.random.Generator) -> Iterator[list[Example]]:
    """One epoch: random batches of captions of equal length, in random order."""
    by_length: dict[int, list[int]] = {}
    for i in rng.permutation(len(pool)).tolist():
        by_length.setdefault(len(pool[i].words), []).append(i)
    cut = [same[i : i + size] for same in by_length.values() for i in range(0, len(same), size)]
    for i in rng.permutation(len(cut)).tolist():
        yield [pool[j] for j in cut[i]]


def joined(first: Example, joint: str, second: Example) -> Example:
    """One longer caption of two, with both graphs; it teaches that far words seldom belong together."""
    shift = len(first.words) + 1
    words = Words([*first.words.forms, joint, *second.words.forms], [*first.words.places, *second.words.places])

    def move(phrase: Phrase) -> Phrase:
        return Phrase(phrase.first + shift, phrase.last + shift)

    a, b = first.graph, second.graph
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


def usable(examples: Iterable[Example]) -> list[Example]:
    """Those whose graph was found whole: from others the network would learn to leave nodes out."""
    return [example for example in examples if len(example.words) and not example.graph.missing]
