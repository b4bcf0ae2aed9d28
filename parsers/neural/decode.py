"""From the network's scores to scene graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from parsers.neural import labels as forms
from parsers.neural.network import EDITS, ROLES, Labels, Scores, triples
from parsers.neural.words import Words

MAX_NODES = 128
"""Objects, and words that relations hang on, of one caption that are looked at: bounds the memory of long texts."""


class Decoder:
    """Reads graphs off scores.

    Args:
        labels: what the numbers mean.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def __call__(self, captions: Sequence[str], words: Sequence[Words], scores: Scores) -> list[SceneGraph]:
        """The graphs of a batch of captions of equal length."""
        scores = Scores(*(tensor.cpu() for tensor in scores))
        batch, length = scores.roles.shape[:2]
        roles = scores.roles > 0
        # In long texts only the likeliest anchors and objects are looked at.
        anchors = nouns = [list(range(length))] * batch
        if length > MAX_NODES:
            anchors = _likeliest(scores.anchor_object.amax(2))
            nouns = _likeliest(torch.maximum(scores.subject_object.amax(2), scores.subject_object.amax(1)))
            scores_of = torch.stack([_between(scores, i, anchors[i], nouns[i]) for i in range(batch)])
        else:
            scores_of = triples(scores)
        objects, attributes = _Places(roles[:, :, ROLES.index("object")]), _Places(scores.attributes > 0)
        relations, others = _Places(scores_of > 0), _Places(scores.words > 0)
        # One flat list a caption: many small ones would keep the garbage collector busy.
        joined = roles[:, :, 1:].flatten(1).numpy().tolist()
        edits = scores.edits.argmax(-1).flatten(1).numpy().tolist()
        labels = scores.relations.argmax(-1).numpy().tolist()
        graphs = []
        for b, (caption, split) in enumerate(zip(captions, words, strict=True)):
            found = _Found(
                {word for (word,) in objects.of(b)},
                [(noun, word) for word, noun in attributes.of(b) if word != noun],
                [
                    (nouns[b][subject], nouns[b][object_], anchors[b][anchor])
                    for anchor, subject, object_ in relations.of(b)
                    if nouns[b][subject] not in (anchors[b][anchor], nouns[b][object_])
                ],
                list(others.of(b)),
            )
            graphs.append(self._graph(caption, split, found, joined[b], edits[b], labels[b]))
        return graphs

    def _graph(
        self, caption: str, words: Words, found: _Found, joined: list[bool], edits: list[int], relations: list[int]
    ) -> SceneGraph:
        label = _Labeller(caption, words, edits, self._labels)
        nouns = sorted(
            found.objects.union(
                (noun for noun, _ in found.attributes),
                (end for subject, object_, _ in found.relations for end in (subject, object_)),
            )
        )
        order = {noun: index for index, noun in enumerate(nouns)}
        objects = []
        last = -1
        for noun in nouns:
            first = noun
            while first - 1 > last and joined[2 * (first - 1)]:
                first -= 1
            objects.append(Object(label.phrase(first, noun, 0), label.span(first, noun)))
            last = noun
        attributes = set()
        for noun, word in found.attributes:
            first = word
            while first > 0 and joined[2 * first - 1] and first - 1 not in order:
                first -= 1
            attributes.add((order[noun], label.span(first, word), label.phrase(first, word, 1)))
        edges: dict[tuple[int, int, str], Relation] = {}
        for subject, object_, anchor in found.relations:
            spoken: list[int] = []
            if anchor != object_:
                others = (word for head, word in found.others if head == anchor and word not in (subject, object_))
                spoken = sorted({anchor, *others})
            name = label.relation(self._labels.relations[relations[anchor]], spoken)
            if name:
                key = (order[subject], order[object_], name)
                edges.setdefault(key, Relation(*key, label.spans(spoken)))
        return SceneGraph(
            caption,
            tuple(objects),
            tuple(Attribute(noun, name, span) for noun, span, name in sorted(attributes)),
            tuple(edges[key] for key in sorted(edges)),
        )


def _likeliest(scores: Tensor) -> list[list[int]]:
    """The numbers of the `MAX_NODES` best words of each caption, in the caption's order."""
    best: list[list[int]] = scores.topk(MAX_NODES, dim=1).indices.sort(dim=1).values.tolist()
    return best


def _between(scores: Scores, i: int, anchors: list[int], nouns: list[int]) -> Tensor:
    """Log-odds of caption i's relations between some words: [anchors, nouns, nouns]."""
    subjects = scores.anchor_subject[i][anchors][:, nouns]
    objects = scores.anchor_object[i][anchors][:, nouns]
    return subjects[:, :, None] + objects[:, None, :] + scores.subject_object[i][nouns][:, nouns]


class _Places:
    """Where a mask over a batch is true, to be read caption by caption."""

    __slots__ = ("_bounds", "_columns")

    def __init__(self, mask: Tensor) -> None:
        rows, *columns = mask.nonzero().numpy().T
        self._bounds = np.searchsorted(rows, np.arange(len(mask) + 1)).tolist()
        self._columns = [column.tolist() for column in columns]

    def of(self, row: int) -> Iterator[tuple[int, ...]]:
        """The places in one row, in order."""
        start, end = self._bounds[row : row + 2]
        return zip(*(column[start:end] for column in self._columns), strict=True)


class _Found(NamedTuple):
    """Word numbers of what is in one caption."""

    objects: set[int]
    attributes: list[tuple[int, int]]
    """object, attribute"""
    relations: list[tuple[int, int, int]]
    """subject, object, anchor"""
    others: list[tuple[int, ...]]
    """anchor, another word"""


class _Labeller:
    """Normal forms and places of one caption's words."""

    __slots__ = ("_caption", "_edits", "_labels", "_words")

    def __init__(self, caption: str, words: Words, edits: list[int], labels: Labels) -> None:
        self._caption, self._words, self._edits, self._labels = caption, words, edits, labels

    def word(self, i: int, kind: int) -> str:
        return forms.apply(self._edit(i, kind), self._words.forms[i])

    def _edit(self, i: int, kind: int) -> str:
        return self._labels.edits[self._edits[i * len(EDITS) + kind]]

    def phrase(self, first: int, last: int, kind: int) -> str:
        """The words, spaced as in the caption, the last one in its normal form."""
        if first == last:
            return self.word(last, kind)
        places = self._words.places
        gaps = (self._caption[places[i][1] : places[i + 1][0]] for i in range(first, last))
        before = "".join(form + gap for form, gap in zip(self._words.forms[first:last], gaps, strict=True))
        joint = forms.JOINTS.get(self._edit(last, kind)[0])
        if joint is not None:
            before = before.rstrip() + joint
        return " ".join((before + self.word(last, kind)).split())

    def relation(self, label: str, spoken: Sequence[int]) -> str:
        """A whole label, or what the words make, or what the first of them and the rest of a label make."""
        if label and not label.startswith(forms.REST):
            return label
        words = spoken[:1] if label else spoken
        return " ".join([*(self.word(i, 2) for i in words), *label.split()[1:]])

    def span(self, first: int, last: int) -> Span:
        return Span(self._words.places[first][0], self._words.places[last][1])

    def spans(self, words: Sequence[int]) -> tuple[Span, ...]:
        """Neighbours share a span."""
        runs: list[list[int]] = []
        for i in words:
            if runs and runs[-1][1] + 1 == i:
                runs[-1][1] = i
            else:
                runs.append([i, i])
        return tuple(self.span(first, last) for first, last in runs)


assert EDITS == ("object", "attribute", "relation")
