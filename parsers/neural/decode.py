"""From the network's scores to scene graphs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from parsers.neural import labels as forms
from parsers.neural.network import EDITS, ROLES, Labels, Scores, triples
from parsers.neural.words import Words

SIDES = ("left", "right")
"""Whole labels that name one ("at the left of") are taken only where the caption does: rare, they are mixed up."""
RULED_OUT = -1e9
"""Log-odds of a label that shall not be taken."""
LEAST_ODDS = math.log(0.1 / 0.9)
"""Log-odds that the likeliest of several nouns must have."""
MAX_NODES = 128
"""Objects, and words that relations hang on, of one caption that are looked at: bounds the memory of long texts."""


class Decoder:
    """Reads graphs off scores.

    Args:
        labels: what the numbers mean.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        named = torch.tensor([[side in name.split() for name in labels.relations] for side in SIDES])
        self._unsaid = named * RULED_OUT

    def __call__(self, captions: Sequence[str], words: Sequence[Words], scores: Scores) -> list[SceneGraph]:
        """The graphs of a batch of captions of equal length."""
        scores = Scores(*(tensor.cpu() for tensor in scores))
        batch, length = scores.roles.shape[:2]
        roles = scores.roles > 0
        itself = torch.eye(length, dtype=torch.bool)
        attributes = _chosen(scores.attributes.masked_fill(itself, -torch.inf))
        caption, anchor, subject, object_ = _relations(scores)
        is_object = roles[:, :, ROLES.index("object")] | attributes.any(1)
        is_object[caption, subject] = is_object[caption, object_] = True
        found = zip(
            _by_caption(batch, *is_object.nonzero().T),
            _by_caption(batch, *attributes.nonzero().T),
            _by_caption(batch, caption, subject, object_, anchor),
            _by_caption(batch, *(scores.words > 0).nonzero().T),
            strict=True,
        )
        # One flat list a caption: many small ones would keep the garbage collector busy.
        in_object, in_attribute = (
            roles[:, :, ROLES.index(role)].numpy().tolist() for role in ("object_joined", "attribute_joined")
        )
        edits = scores.edits.numpy().argmax(-1).reshape(batch, -1).tolist()
        missing = torch.tensor([[float(side not in split.forms) for side in SIDES] for split in words])
        labels = (scores.relations + (missing @ self._unsaid)[:, None]).numpy().argmax(-1).tolist()
        return [
            self._graph(
                _Labeller(captions[b], words[b], edits[b], self._labels),
                _Found(*here),  # type: ignore[arg-type]
                in_object[b],
                in_attribute[b],
                labels[b],
            )
            for b, here in enumerate(found)
        ]

    def _graph(
        self, label: _Labeller, found: _Found, in_object: list[bool], in_attribute: list[bool], relations: list[int]
    ) -> SceneGraph:
        order = {noun: index for index, (noun,) in enumerate(found.objects)}
        objects = []
        last = -1
        for noun in order:
            first = noun
            while first - 1 > last and in_object[first - 1]:
                first -= 1
            objects.append(Object(label.phrase(first, noun, 0), label.span(first, noun)))
            last = noun
        attributes = set()
        for word, noun in found.attributes:
            first = word
            while first > 0 and in_attribute[first - 1] and first - 1 not in order:
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
            label.caption,
            tuple(objects),
            tuple(Attribute(noun, name, span) for noun, span, name in sorted(attributes)),
            tuple(edges[key] for key in sorted(edges)),
        )


def _chosen(scores: Tensor) -> Tensor:
    """What is likelier than not; and what is so only for some noun or other goes to the likeliest one.

    Args:
        scores: log-odds, the nouns it could go to in the last dimension.
    """
    best, place = scores.max(-1, keepdim=True)
    exists = (scores.sigmoid().sum(-1, keepdim=True) > 0.5) & (best > LEAST_ODDS)
    return (scores > 0).scatter(-1, place, (best > 0) | exists)


def _relations(scores: Scores) -> tuple[Tensor, ...]:
    """Caption, anchor, subject and object of each relation; an anchor finds the likeliest subject for an object."""
    batch, length = scores.roles.shape[:2]
    if length > MAX_NODES:  # in long texts only the likeliest anchors and objects are looked at
        anchors = _likeliest(scores.anchor_object.amax(2))
        nouns = _likeliest(torch.maximum(scores.subject_object.amax(2), scores.subject_object.amax(1)))
        rows = torch.arange(batch)[:, None, None]
        from_anchors, pairs = (rows, anchors[:, :, None], nouns[:, None]), (rows, nouns[:, :, None], nouns[:, None])
        scores = scores._replace(
            anchor_subject=scores.anchor_subject[from_anchors],
            anchor_object=scores.anchor_object[from_anchors],
            subject_object=scores.subject_object[pairs],
        )
    else:
        anchors = nouns = torch.arange(length).expand(batch, length)
    itself = torch.eye(nouns.shape[1], dtype=torch.bool)
    odds = triples(
        scores._replace(
            anchor_subject=scores.anchor_subject.masked_fill(anchors[:, :, None] == nouns[:, None], -torch.inf),
            subject_object=scores.subject_object.masked_fill(itself, -torch.inf),
        )
    )
    caption, anchor, object_ = (odds.amax(2) > LEAST_ODDS).nonzero().T
    which, subject = _chosen(odds[caption, anchor, :, object_]).nonzero().T
    caption, anchor, object_ = caption[which], anchor[which], object_[which]
    return caption, anchors[caption, anchor], nouns[caption, subject], nouns[caption, object_]


def _likeliest(scores: Tensor) -> Tensor:
    """int64 [B, MAX_NODES]: the numbers of the best words of each caption, in the caption's order."""
    return scores.topk(MAX_NODES, dim=1).indices.sort(dim=1).values


def _by_caption(captions: int, caption: Tensor, *columns: Tensor) -> list[list[tuple[int, ...]]]:
    """The rows of each caption, in order.

    Args:
        captions: how many there are.
        caption: int64 [N], the number of each row's caption, rising.
        columns: int64 [N] each.
    """
    bounds = torch.searchsorted(caption.contiguous(), torch.arange(captions + 1)).tolist()
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    return [rows[start:end] for start, end in pairwise(bounds)]


class _Found(NamedTuple):
    """Word numbers of what is in one caption."""

    objects: list[tuple[int]]
    attributes: list[tuple[int, int]]
    """attribute, object"""
    relations: list[tuple[int, int, int]]
    """subject, object, anchor"""
    others: list[tuple[int, int]]
    """anchor, another word"""


class _Labeller:
    """Normal forms and places of one caption's words."""

    __slots__ = ("_edits", "_labels", "_words", "caption")

    def __init__(self, caption: str, words: Words, edits: list[int], labels: Labels) -> None:
        self.caption, self._words, self._edits, self._labels = caption, words, edits, labels

    def word(self, i: int, kind: int) -> str:
        return forms.apply(self._edit(i, kind), self._words.forms[i])

    def _edit(self, i: int, kind: int) -> str:
        return self._labels.edits[self._edits[i * len(EDITS) + kind]]

    def phrase(self, first: int, last: int, kind: int) -> str:
        """The words, spaced as in the caption, the last one in its normal form."""
        if first == last:
            return self.word(last, kind)
        places = self._words.places
        gaps = (self.caption[places[i][1] : places[i + 1][0]] for i in range(first, last))
        before = "".join(form + gap for form, gap in zip(self._words.forms[first:last], gaps, strict=True))
        joint = forms.JOINTS.get(self._edit(last, kind)[0])
        if joint is not None:
            before = before.rstrip() + joint
        return " ".join((before + self.word(last, kind)).split())

    def relation(self, label: str, spoken: Sequence[int]) -> str:
        """A whole label, or what the words make, or what the first of them and the rest of a label make; or nothing."""
        if label and not label.startswith(forms.REST):
            return label
        if not spoken:
            return ""
        words = [self.word(i, 2) for i in (spoken[:1] if label else spoken)]
        if len(words) > 1 and self._words.forms[spoken[-1]] == "of":
            words[-1] = "of"  # alone it may be "have", but "right of" is never "right have"
        return " ".join([*words, *label.split()[1:]])

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
