"""Decoding: from the network's scores to scene graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span, list_runs
from parsers.neural.edits import JOINTS, REST, apply_edit
from parsers.neural.network import ATTRIBUTE, KINDS, OBJECT, RELATION, ROLES, VISIBLE, GraphScores
from parsers.neural.tokenizer import TokenizedCaption
from parsers.neural.vocabulary import Vocabulary
from parsers.verbs import find_verbs

SIDES = ("left", "right")
"""A whole label that names a side ("at the left of") is taken only if the caption names it, too.

Such labels are so rare in training that the network mixes them up.
"""
RULED_OUT = -1e9
"""Log-odds of a label that must not be taken."""
LEAST_ODDS = math.log(0.1 / 0.9)
"""Smallest log-odds of the likeliest of several nouns, if it is to be taken."""
MAX_NODES = 128
"""Number of objects, and of anchors, that are looked at in one caption; it bounds the memory that long texts take."""

SINGULARS = frozenset(("-1+", "-2+", "-3+y"))
"""Edits that make a singular of a plural. Objects keep the number that they have in the caption.

So do nearly all in training, which is why the network uses these edits at random.
"""
NOT_VERBS = frozenset(("left",))
"""Words of relations that look like forms of verbs: in "left of" nobody leaves."""

_Rows = list[tuple[int, ...]]


class Decoder:
    """Builds scene graphs of scores.

    In "red cup on table" (words 0 to 3), say that ``roles`` takes words 1 and 3 for objects, with log-odds of 3 and 2.
    If ``attributes[0, 1]`` is 2, "red" is an attribute of the cup. Say that ``anchor_subject[2, 1]`` is 1.5,
    ``anchor_object[2, 3]`` is 1 and ``subject_object[1, 3]`` is 0.5. Their sum, 3, is positive, so there is a relation
    from the cup to the table, anchored at "on". If number 0 is the likeliest of ``relation_labels[2]``, the edits of
    the relation's words make its label, here "-0+": "on". Each object and attribute gets its label from the likeliest
    edit of its last word.

    Args:
        vocabulary: the vocabulary of the network that made the scores.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        names_side = torch.tensor([[side in name.split() for name in vocabulary.relation_labels] for side in SIDES])
        self._penalties = names_side * RULED_OUT

    def __call__(
        self, captions: Sequence[str], words: Sequence[TokenizedCaption], scores: GraphScores
    ) -> list[SceneGraph]:
        """Returns the graphs of a batch of captions of equal length.

        Args:
            captions: B captions.
            words: their T words each.
            scores: what the network says of them.
        """
        scores = GraphScores(*(tensor.cpu() for tensor in scores))
        batch, length = scores.roles.shape[:2]
        roles = scores.roles > 0
        itself = torch.eye(length, dtype=torch.bool)
        attributes = _decide(scores.attributes.masked_fill(itself, -torch.inf))
        caption, anchor, subject, object_ = _find_relations(scores)
        is_object = roles[:, :, ROLES.index("object")] | attributes.any(1)
        is_object[caption, subject] = is_object[caption, object_] = True
        nodes = zip(
            _group_by_caption(batch, *is_object.nonzero().T),
            _group_by_caption(batch, *attributes.nonzero().T),
            _group_by_caption(batch, caption, subject, object_, anchor),
            _group_by_caption(batch, *(scores.relation_words > 0).nonzero().T),
            strict=True,
        )
        # One flat list for each caption: many small ones would keep the garbage collector busy.
        in_object, in_attribute = (
            roles[:, :, ROLES.index(role)].numpy().tolist() for role in ("object_joined", "attribute_joined")
        )
        visible = scores.roles[:, :, VISIBLE].double().sigmoid().numpy().round(2).tolist()
        edits = scores.edits.numpy().argmax(-1).reshape(batch, -1).tolist()
        missing = torch.tensor([[float(side not in split.forms) for side in SIDES] for split in words])
        labels = (scores.relation_labels + (missing @ self._penalties)[:, None]).numpy().argmax(-1).tolist()
        return [
            _build_graph(
                _Labeller(captions[b], words[b], edits[b], labels[b], self._vocabulary),
                _Nodes(*rows),
                in_object[b],
                in_attribute[b],
                visible[b],
            )
            for b, rows in enumerate(nodes)
        ]


@lru_cache(maxsize=1 << 16)
def check_verb(label: str, form: str) -> str:
    """Returns the label of a word of a relation. If the word is a form of a verb, the label is a verb of that form.

    The network chooses an edit by what similar words have, which makes "pos" of "posed" and "crosse" of "crosses".
    """
    verbs = () if form in NOT_VERBS else find_verbs(form)
    return label if label in verbs or not verbs else verbs[0]


def _decide(scores: Tensor) -> Tensor:
    """Decides which nouns something belongs to: those that are likelier than not, or else the likeliest one.

    The likeliest noun is taken if the probabilities add up to more than 0.5: then the attribute or the relation exists,
    even though it is not sure whose it is. With probabilities of 0.4 and 0.45 the second noun is taken, with 0.2 and
    0.25 none is, and with 0.6 and 0.7 both are.

    Args:
        scores: log-odds [..., nouns].

    Returns:
        Booleans of the same shape.
    """
    best, place = scores.max(-1, keepdim=True)
    exists = (scores.sigmoid().sum(-1, keepdim=True) > 0.5) & (best > LEAST_ODDS)
    return (scores > 0).scatter(-1, place, (best > 0) | exists)


def _find_relations(scores: GraphScores) -> tuple[Tensor, ...]:
    """Finds all relations. For each anchor and object, `_decide` finds the subject.

    Returns:
        Four int64 tensors [N]: the caption, the anchor, the subject and the object of each relation, captions rising.
    """
    batch, length = scores.roles.shape[:2]
    if length > MAX_NODES:  # in long texts only the likeliest anchors and objects are looked at
        anchors = _find_likeliest(scores.anchor_object.amax(2))
        nouns = _find_likeliest(torch.maximum(scores.subject_object.amax(2), scores.subject_object.amax(1)))
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
    odds = scores._replace(
        anchor_subject=scores.anchor_subject.masked_fill(anchors[:, :, None] == nouns[:, None], -torch.inf),
        subject_object=scores.subject_object.masked_fill(itself, -torch.inf),
    ).relations()
    caption, anchor, object_ = (odds.amax(2) > LEAST_ODDS).nonzero().T
    which, subject = _decide(odds[caption, anchor, :, object_]).nonzero().T
    caption, anchor, object_ = caption[which], anchor[which], object_[which]
    return caption, anchors[caption, anchor], nouns[caption, subject], nouns[caption, object_]


def _find_likeliest(scores: Tensor) -> Tensor:
    """Returns int64 [B, MAX_NODES]: the numbers of the words with the best scores [B, T], in caption order."""
    return scores.topk(MAX_NODES, dim=1).indices.sort(dim=1).values


def _group_by_caption(captions: int, caption: Tensor, *columns: Tensor) -> list[_Rows]:
    """Returns the rows of a table for each caption, in order.

    Args:
        captions: how many captions there are.
        caption: int64 [N], the number of each row's caption, rising.
        columns: int64 [N] each.
    """
    bounds = torch.searchsorted(caption.contiguous(), torch.arange(captions + 1)).tolist()
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    return [rows[start:end] for start, end in pairwise(bounds)]


class _Nodes(NamedTuple):
    """The nodes of one caption that were decided on; all numbers are numbers of words."""

    objects: _Rows
    """the last word of each object's name, rising"""
    attributes: _Rows
    """the last word of the attribute, the object"""
    relations: _Rows
    """subject, object, anchor"""
    relation_words: _Rows
    """anchor, another word of the relation"""


def _build_graph(
    label: _Labeller, nodes: _Nodes, in_object: list[bool], in_attribute: list[bool], visible: list[float]
) -> SceneGraph:
    """Builds the graph of one caption.

    Args:
        in_object, in_attribute: for each word, whether it is joined to the next one in a name, or in an attribute.
        visible: for each word, how likely it is that the node that it stands for can be seen. A relation is as visible
            as the less visible one of its objects.
    """
    order = {noun: index for index, (noun,) in enumerate(nodes.objects)}
    objects = []
    last = -1
    for noun in order:
        first = noun
        while first - 1 > last and in_object[first - 1]:
            first -= 1
        objects.append(
            Object(label.make_phrase(first, noun, OBJECT), label.find_span(first, noun), visible=visible[noun])
        )
        last = noun
    attributes = set()
    for word, noun in nodes.attributes:
        first = word
        while first > 0 and in_attribute[first - 1] and first - 1 not in order:
            first -= 1
        name, seen = label.make_phrase(first, word, ATTRIBUTE), min(visible[word], visible[noun])
        attributes.add((order[noun], label.find_span(first, word), name, seen))
    relations: dict[tuple[int, int, str], Relation] = {}
    for subject, object_, anchor in nodes.relations:
        spoken: list[int] = []
        if anchor != object_:
            others = (word for head, word in nodes.relation_words if head == anchor and word not in (subject, object_))
            spoken = sorted({anchor, *others})
        name = label.make_relation(anchor, spoken)
        if name:
            key = (order[subject], order[object_], name)
            seen = min(visible[subject], visible[object_])
            relations.setdefault(key, Relation(*key, tuple(label.find_spans(spoken)), seen))
    return SceneGraph(
        label.caption,
        tuple(objects),
        tuple(Attribute(noun, name, span, seen) for noun, span, name, seen in sorted(attributes)),
        tuple(relations[key] for key in sorted(relations)),
    )


class _Labeller:
    """Makes the labels of one caption's nodes and finds their spans.

    Args:
        edits: the likeliest edit of each word for each kind of node, T * kinds numbers.
        labels: the likeliest relation label at each word, T numbers.
    """

    __slots__ = ("_edits", "_labels", "_vocabulary", "_words", "caption")

    def __init__(
        self, caption: str, words: TokenizedCaption, edits: list[int], labels: list[int], vocabulary: Vocabulary
    ) -> None:
        self.caption, self._words, self._vocabulary = caption, words, vocabulary
        self._edits, self._labels = edits, labels

    def _edit(self, i: int, kind: int) -> str:
        return self._vocabulary.edits[self._edits[i * len(KINDS) + kind]]

    def _make_word(self, i: int, kind: int) -> str:
        edit, form = self._edit(i, kind), self._words.forms[i]
        if kind == OBJECT and edit in SINGULARS and form.endswith("s"):
            return form
        return (
            check_verb(apply_edit(edit, form), form) if kind == RELATION and edit[0] == "-" else apply_edit(edit, form)
        )

    def make_phrase(self, first: int, last: int, kind: int) -> str:
        """Returns the words from ``first`` to ``last``, spaced as in the caption; the last word is edited."""
        if first == last:
            return self._make_word(last, kind)
        offsets = self._words.offsets
        gaps = (self.caption[offsets[i][1] : offsets[i + 1][0]] for i in range(first, last))
        before = "".join(form + gap for form, gap in zip(self._words.forms[first:last], gaps, strict=True))
        joint = JOINTS.get(self._edit(last, kind)[0])
        if joint is not None:
            before = before.rstrip() + joint
        return " ".join((before + self._make_word(last, kind)).split())

    def make_relation(self, anchor: int, spoken: Sequence[int]) -> str:
        """Returns the label of a relation; it is empty if there is no word to make it of.

        For "sitting at" the label at the anchor may be whole: "sit on". It may be a rest that follows the edited first
        word: "* on" also gives "sit on". If it is empty, both words are edited: "sit at".

        Args:
            anchor: the word whose relation label counts.
            spoken: the words of the relation, rising.
        """
        label = self._vocabulary.relation_labels[self._labels[anchor]]
        if label and not label.startswith(REST):
            return label
        if not spoken:
            return ""
        words = [self._make_word(i, RELATION) for i in (spoken[:1] if label else spoken)]
        if len(words) > 1 and self._words.forms[spoken[-1]] == "of":
            words[-1] = "of"  # alone it may be "have", but "right of" is never "right have"
        return " ".join([*words, *label.split()[1:]])

    def find_span(self, first: int, last: int) -> Span:
        """Returns the characters from the first word to the last one."""
        return Span(self._words.offsets[first][0], self._words.offsets[last][1])

    def find_spans(self, words: Sequence[int]) -> Iterator[Span]:
        """Yields the spans of words in rising order; neighbours share a span."""
        return (self.find_span(first, last) for first, last in list_runs(words))
