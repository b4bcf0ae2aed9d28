"""What the network is trained on: aligned graphs as tensors, and the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from parsers.neural import labels as forms
from parsers.neural.network import EDITS, ROLES, Labels, Network, Scores, triples
from parsers.neural.words import Words
from parsers.train.alignment import Aligned, AlignedRelation

LEAST_WORD, LEAST_OTHER_WORD, LEAST_LABEL = 2, 3, 3
"""How often a word of gold captions, a word of other captions and a label must occur to be known."""
PLACE_LEADS = frozenset(("at", "in", "next", "on", "opposite", "out"))
"""What the labels of places begin with ("on top of"): they are learned whole."""
FREQUENT = 8
"""How often a word of gold captions must occur for another to be a misspelling of it."""


@dataclass(frozen=True, slots=True)
class Example:
    """A caption with what is known of it."""

    words: Words
    graph: Aligned | None
    """none where only teachers have read the caption"""
    weight: float = 1.0
    """how much the graph counts; 0 without one"""
    taught: Scores | None = None
    """what teachers say: log-odds, float16, without the dimension of the batch"""


def make_labels(gold: Sequence[Example], others: Sequence[Example], lookalikes: Sequence[str] = ()) -> Labels:
    """The vocabularies of a training set: labels come from gold graphs, words also from other captions."""
    words = Counter(form for example in gold for form in example.words.forms)
    more = Counter(form for example in others for form in example.words.forms)
    graphs = [(example.words, example.graph) for example in gold if example.graph is not None]
    known = forms.vocabulary(words.elements(), [""], LEAST_WORD)
    also = forms.vocabulary((form for form in more.elements() if form.isalpha()), [], LEAST_OTHER_WORD)
    return Labels(
        tuple(dict.fromkeys((*known, *also))),
        forms.vocabulary((name for pair in graphs for _, _, name in _edits(*pair)), [forms.SAME], LEAST_LABEL),
        forms.vocabulary((name for pair in graphs for _, name in _relation_labels(*pair)), [""], LEAST_LABEL),
        sum(count >= FREQUENT for count in words.values()),
        tuple(lookalikes),
    )


def _edits(words: Words, graph: Aligned) -> Iterator[tuple[int, int, str]]:
    """(word, kind, edit)"""
    tokens = words.forms
    for phrase, name in graph.objects:
        yield phrase.last, 0, forms.phrase_edit(tokens[phrase.first : phrase.last + 1], name)
    for attribute in graph.attributes:
        phrase = attribute.phrase
        yield phrase.last, 1, forms.phrase_edit(tokens[phrase.first : phrase.last + 1], attribute.label)
    for relation in graph.relations:
        parts_ = relation.label.split()
        if len(parts_) == len(relation.words):
            for word, part in zip(relation.words, parts_, strict=True):
                yield word, 2, forms.edit(tokens[word], part)
        elif _rest(tokens, relation):
            yield relation.words[0], 2, forms.edit(tokens[relation.words[0]], parts_[0])


def _relation_labels(words: Words, graph: Aligned) -> Iterator[tuple[int, str]]:
    """(anchor, whole label or rest of it, empty where its words give it)"""
    for relation in graph.relations:
        spoken = len(relation.label.split()) == len(relation.words)
        yield relation.anchor, "" if spoken else _rest(words.forms, relation) or relation.label


def _rest(forms_: Sequence[str], relation: AlignedRelation) -> str | None:
    """The label without its first word, if that is the first of the relation's words: "sit in" for "sitting at"."""
    first, _, rest = relation.label.partition(" ")
    if not rest or not relation.words or first in PLACE_LEADS:
        return None
    return None if forms.edit(forms_[relation.words[0]], first).startswith("=") else forms.REST + rest


class Targets(NamedTuple):
    """What shall be said of B captions of T words each: probabilities of the decisions."""

    roles: Tensor
    """[B, T, roles]"""
    attributes: Tensor
    """[B, T, T]"""
    triples: Tensor
    """[B, T, T, T]"""
    words: Tensor
    """[B, T, T]: anchor -> other words"""
    anchors: Tensor
    """[B, T]: whether a relation is anchored there; elsewhere ``words`` do not count"""
    relations: Tensor
    """[B, T, relation labels]: zeros where no label is needed or known"""
    edits: Tensor
    """[B, T, kinds, edits], likewise"""


def graph_targets(examples: Sequence[Example], labels: Labels) -> Targets:
    """What the graphs of examples of equal length say."""
    size, length = len(examples), len(examples[0].words)
    edit_numbers = {edit: i for i, edit in enumerate(labels.edits)}
    relation_numbers = {name: i for i, name in enumerate(labels.relations)}
    roles = np.zeros((size, length, len(ROLES)), np.float32)
    attributes = np.zeros((size, length, length), np.float32)
    cubes = np.zeros((size, length, length, length), np.float32)
    words = np.zeros((size, length, length), np.float32)
    anchors = np.zeros((size, length), np.float32)
    relations = np.zeros((size, length, len(labels.relations)), np.float32)
    edits = np.zeros((size, length, len(EDITS), len(labels.edits)), np.float32)
    for b, example in enumerate(examples):
        if example.graph is None:
            continue
        for phrase, _ in example.graph.objects:
            roles[b, phrase.last, 0] = 1
            roles[b, phrase.first : phrase.last, 1] = 1
        for attribute in example.graph.attributes:
            attributes[b, attribute.phrase.last, attribute.object] = 1
            roles[b, attribute.phrase.first : attribute.phrase.last, 2] = 1
        for relation in example.graph.relations:
            cubes[b, relation.anchor, relation.subject, relation.object] = 1
            anchors[b, relation.anchor] = 1
            words[b, relation.anchor, list(relation.words[:-1])] = 1
        for anchor, name in _relation_labels(example.words, example.graph):
            relations[b, anchor] = 0
            if name in relation_numbers:
                relations[b, anchor, relation_numbers[name]] = 1
        for word, kind, edit in _edits(example.words, example.graph):
            edits[b, word, kind] = 0
            if edit in edit_numbers:
                edits[b, word, kind, edit_numbers[edit]] = 1
    return Targets(*map(torch.from_numpy, (roles, attributes, cubes, words, anchors, relations, edits)))


def taught_targets(taught: Sequence[Scores]) -> Targets:
    """What teachers say of captions of equal length.

    Labels count as far as their words are thought to play the part.
    """
    scores = Scores(*(torch.stack(tensors).float() for tensors in zip(*taught, strict=True)))
    roles, attributes, words = scores.roles.sigmoid(), scores.attributes.sigmoid(), scores.words.sigmoid()
    cubes = triples(scores).sigmoid()
    anchors = cubes.flatten(2).amax(2)
    spoken = torch.maximum(anchors, (anchors[:, :, None] * words).amax(1))
    parts = torch.stack([roles[:, :, ROLES.index("object")], attributes.amax(2), spoken], dim=-1)
    return Targets(
        roles,
        attributes,
        cubes,
        words,
        anchors,
        scores.relations.softmax(-1) * anchors[..., None],
        scores.edits.softmax(-1) * parts[..., None],
    )


def teach(
    examples: Sequence[Example], teachers: Sequence[Network], is_word: Callable[[str], bool], size: int = 128
) -> list[Example]:
    """The examples with what the teachers say of them, their log-odds averaged.

    Args:
        is_word: tells words from what an edit made by mistake ("ladie" of "ladies"): such edits are not learned.
    """
    edits = teachers[0].labels.edits
    mistaken: dict[str, Tensor] = {}
    found = list(examples)
    for numbers in equally_long(examples, size):
        captions = [examples[i].words for i in numbers]
        said = [_normal(teacher.score(captions)) for teacher in teachers]
        mean = Scores(*(torch.stack(tensors).mean(0).half() for tensors in zip(*said, strict=True)))
        for form in {form for words in captions for form in words.forms} - mistaken.keys():
            mistaken[form] = torch.tensor([not forms.is_sound(edit, form, is_word) for edit in edits])
        wrong = torch.stack([torch.stack([mistaken[form] for form in words.forms]) for words in captions])
        mean = mean._replace(edits=mean.edits.masked_fill(wrong[:, :, None], -torch.inf))
        for i, *tensors in zip(numbers, *mean, strict=True):
            found[i] = replace(examples[i], taught=Scores(*tensors))
    return found


def _normal(scores: Scores) -> Scores:
    """With log-probabilities for labels, so that they can be averaged."""
    return scores._replace(relations=scores.relations.log_softmax(-1), edits=scores.edits.log_softmax(-1))


def loss(scores: Scores, targets: Targets, weights: Tensor) -> Tensor:
    """The weighted sum over captions of the losses of all decisions.

    Args:
        weights: float32 [B]
    """
    total = _binary(scores.roles, targets.roles) + _binary(scores.attributes, targets.attributes)
    total = total + _binary(triples(scores), targets.triples)
    total = total + _binary(scores.words, targets.words, targets.anchors[..., None])
    total = total - (scores.relations.log_softmax(-1) * targets.relations).flatten(1).sum(1)
    total = total - (scores.edits.log_softmax(-1) * targets.edits).flatten(1).sum(1)
    return (weights * total).sum()


def _binary(scores: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
    """[B]"""
    return F.binary_cross_entropy_with_logits(scores, targets, weight, reduction="none").flatten(1).sum(1)


def equally_long(examples: Sequence[Example], size: int) -> Iterator[list[int]]:
    """Numbers of at most ``size`` examples of equal length at a time, in the order of the examples."""
    by_length: dict[int, list[int]] = {}
    for i, example in enumerate(examples):
        by_length.setdefault(len(example.words), []).append(i)
    for same in by_length.values():
        yield from (same[i : i + size] for i in range(0, len(same), size))


def batches(pool: Sequence[Example], size: int, rng: np.random.Generator) -> Iterator[list[Example]]:
    """One epoch: random batches of captions of equal length, in random order."""
    shuffled = [pool[i] for i in rng.permutation(len(pool))]
    cut = list(equally_long(shuffled, size))
    for i in rng.permutation(len(cut)).tolist():
        yield [shuffled[j] for j in cut[i]]


def usable(examples: Iterable[Example]) -> list[Example]:
    """Those whose graph was found whole: from others the network would learn to leave nodes out."""
    return [example for example in examples if len(example.words) and example.graph and not example.graph.missing]
