"""From the network's scores to scene graphs."""

from __future__ import annotations

from collections.abc import Sequence

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
        found: list[_Found] = [_Found() for _ in range(batch)]
        for b, word in roles[:, :, ROLES.index("object")].nonzero().numpy().tolist():
            found[b].objects.add(word)
        for b, word, noun in (scores.attributes > 0).nonzero().numpy().tolist():
            if word != noun:
                found[b].attributes.append((noun, word))
                found[b].objects.add(noun)
        for b, r, s, o in (scores_of > 0).nonzero().numpy().tolist():
            anchor, subject, object_ = anchors[b][r], nouns[b][s], nouns[b][o]
            if subject not in (anchor, object_):
                found[b].relations.append((subject, object_, anchor))
                found[b].objects.update((subject, object_))
        for b, anchor, word in (scores.words > 0).nonzero().numpy().tolist():
            found[b].others.setdefault(anchor, []).append(word)
        joined = roles[:, :, 1:].numpy().tolist()
        edits = scores.edits.argmax(-1).numpy().tolist()
        relations = scores.relations.argmax(-1).numpy().tolist()
        return [
            self._graph(caption, split, f, joined[b], edits[b], relations[b])
            for b, (caption, split, f) in enumerate(zip(captions, words, found, strict=True))
        ]

    def _graph(
        self, caption: str, words: Words, found: _Found, joined: list[list[bool]], edits: list[list[int]],
        relations: list[int],
    ) -> SceneGraph:  # fmt: skip
        label = _Labeller(caption, words, edits, self._labels)
        nouns = sorted(found.objects)
        order = {noun: index for index, noun in enumerate(nouns)}
        objects = []
        last = -1
        for noun in nouns:
            first = noun
            while first - 1 > last and joined[first - 1][0]:
                first -= 1
            objects.append(Object(label.phrase(first, noun, 0), label.span(first, noun)))
            last = noun
        attributes = set()
        for noun, word in found.attributes:
            first = word
            while first > 0 and joined[first - 1][1] and first - 1 not in order:
                first -= 1
            attributes.add((order[noun], label.span(first, word), label.phrase(first, word, 1)))
        edges: dict[tuple[int, int, str], Relation] = {}
        for subject, object_, anchor in found.relations:
            spoken: list[int] = []
            if anchor != object_:
                others = found.others.get(anchor, ())
                spoken = sorted({anchor, *(word for word in others if word not in (subject, object_))})
            name = self._labels.relations[relations[anchor]] or " ".join(label.word(i, 2) for i in spoken)
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


class _Found:
    """Word numbers of what is in one caption."""

    __slots__ = ("attributes", "objects", "others", "relations")

    def __init__(self) -> None:
        self.objects: set[int] = set()
        self.attributes: list[tuple[int, int]] = []
        self.relations: list[tuple[int, int, int]] = []
        self.others: dict[int, list[int]] = {}


class _Labeller:
    """Normal forms and places of one caption's words."""

    __slots__ = ("_caption", "_edits", "_labels", "_words")

    def __init__(self, caption: str, words: Words, edits: list[list[int]], labels: Labels) -> None:
        self._caption, self._words, self._edits, self._labels = caption, words, edits, labels

    def word(self, i: int, kind: int) -> str:
        return forms.apply(self._labels.edits[self._edits[i][kind]], self._words.forms[i])

    def phrase(self, first: int, last: int, kind: int) -> str:
        """The words, spaced as in the caption, the last one in its normal form."""
        if first == last:
            return self.word(last, kind)
        places = self._words.places
        gaps = (self._caption[places[i][1] : places[i + 1][0]] for i in range(first, last))
        before = "".join(form + gap for form, gap in zip(self._words.forms[first:last], gaps, strict=True))
        return " ".join((before + self.word(last, kind)).split())

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
