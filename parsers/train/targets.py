"""Training targets: what graphs or teachers say of a batch, and the loss of the network's scores against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from parsers.neural.network import KINDS, ROLES, VISIBLE, GraphScores
from parsers.neural.vocabulary import Vocabulary
from parsers.train.examples import TrainingExample
from parsers.train.labels import list_edits, list_relation_labels


class Targets(NamedTuple):
    """Probabilities, float32, of the decisions on B captions of T words each."""

    roles: Tensor
    """[B, T, roles]"""
    judged: Tensor
    """[B, T]: whether it is known if the word stands for something visible; elsewhere that role does not count"""
    attributes: Tensor
    """[B, T, T]"""
    relations: Tensor
    """[B, T, T, T]: anchor, subject, object"""
    relation_words: Tensor
    """[B, T, T]: from an anchor to the other words of the relation"""
    anchors: Tensor
    """[B, T]: whether a relation is anchored there; elsewhere ``relation_words`` do not count"""
    relation_labels: Tensor
    """[B, T, relation labels]: all zeros where no label is needed, or none in the vocabulary fits"""
    edits: Tensor
    """[B, T, kinds, edits]: all zeros where no edit is needed, or none in the vocabulary fits"""


def make_graph_targets(examples: Sequence[TrainingExample], vocabulary: Vocabulary) -> Targets:
    """Makes targets of the graphs of examples of equal length; those of an example without a graph are zeros."""
    size, length = len(examples), len(examples[0].words)
    edit_numbers = {edit: i for i, edit in enumerate(vocabulary.edits)}
    label_numbers = {label: i for i, label in enumerate(vocabulary.relation_labels)}
    roles = np.zeros((size, length, len(ROLES)), np.float32)
    judged = np.zeros((size, length), np.float32)
    attributes = np.zeros((size, length, length), np.float32)
    relations = np.zeros((size, length, length, length), np.float32)
    relation_words = np.zeros((size, length, length), np.float32)
    anchors = np.zeros((size, length), np.float32)
    relation_labels = np.zeros((size, length, len(vocabulary.relation_labels)), np.float32)
    edits = np.zeros((size, length, len(KINDS), len(vocabulary.edits)), np.float32)
    for b, example in enumerate(examples):
        if example.graph is None:
            continue
        for phrase, _ in example.graph.objects:
            roles[b, phrase.last, 0] = 1
            roles[b, phrase.first : phrase.last, 1] = 1
        attributed = [attribute.phrase.last for attribute in example.graph.attributes]
        for attribute in example.graph.attributes:
            attributes[b, attribute.phrase.last, attribute.object] = 1
            roles[b, attribute.phrase.first : attribute.phrase.last, 2] = 1
        if example.hidden is not None:
            heads = [*(phrase.last for phrase, _ in example.graph.objects), *attributed]
            judged[b, heads] = 1
            roles[b, [head for head in heads if head not in example.hidden], VISIBLE] = 1
        for relation in example.graph.relations:
            relations[b, relation.anchor, relation.subject, relation.object] = 1
            anchors[b, relation.anchor] = 1
            relation_words[b, relation.anchor, list(relation.words[:-1])] = 1
        for anchor, label in list_relation_labels(example.words, example.graph):
            relation_labels[b, anchor] = 0
            if label in label_numbers:
                relation_labels[b, anchor, label_numbers[label]] = 1
        for word, kind, edit in list_edits(example.words, example.graph):
            edits[b, word, kind] = 0
            if edit in edit_numbers:
                edits[b, word, kind, edit_numbers[edit]] = 1
    arrays = (roles, judged, attributes, relations, relation_words, anchors, relation_labels, edits)
    return Targets(*map(torch.from_numpy, arrays))


def make_teacher_targets(scores: Sequence[GraphScores]) -> Targets:
    """Makes targets of what teachers say of captions of equal length.

    The labels of a word count as much as the teachers believe that the word plays the part: if a word is an object with
    a probability of 0.7, the probabilities of its edits as an object add up to 0.7.
    """
    batch = GraphScores(*(torch.stack(tensors).float() for tensors in zip(*scores, strict=True)))
    roles, attributes = batch.roles.sigmoid(), batch.attributes.sigmoid()
    relations, relation_words = batch.relations().sigmoid(), batch.relation_words.sigmoid()
    anchors = relations.flatten(2).amax(2)
    spoken = torch.maximum(anchors, (anchors[:, :, None] * relation_words).amax(1))
    parts = torch.stack([roles[:, :, ROLES.index("object")], attributes.amax(2), spoken], dim=-1)
    return Targets(
        roles,
        torch.maximum(roles[:, :, ROLES.index("object")], attributes.amax(2)),
        attributes,
        relations,
        relation_words,
        anchors,
        batch.relation_labels.softmax(-1) * anchors[..., None],
        batch.edits.softmax(-1) * parts[..., None],
    )


def compute_loss(scores: GraphScores, targets: Targets, weights: Tensor) -> Tensor:
    """Returns the weighted sum over captions of the cross-entropies of all decisions, a scalar.

    Args:
        weights: how much each caption counts, float32 [B].
    """
    counted = torch.ones_like(targets.roles)
    counted[:, :, VISIBLE] = targets.judged
    total = _binary_loss(scores.roles, targets.roles, counted)
    total = total + _binary_loss(scores.attributes, targets.attributes)
    total = total + _binary_loss(scores.relations(), targets.relations)
    total = total + _binary_loss(scores.relation_words, targets.relation_words, targets.anchors[..., None])
    total = total - (scores.relation_labels.log_softmax(-1) * targets.relation_labels).flatten(1).sum(1)
    total = total - (scores.edits.log_softmax(-1) * targets.edits).flatten(1).sum(1)
    return (weights * total).sum()


def compute_batch_loss(scores: GraphScores, batch: Sequence[TrainingExample], vocabulary: Vocabulary) -> Tensor:
    """Returns the loss of a batch by its graphs, plus the loss by its teachers' scores."""
    weights = torch.tensor([example.weight for example in batch])
    loss = compute_loss(scores, make_graph_targets(batch, vocabulary), weights)
    taught = [(i, example.teacher_scores) for i, example in enumerate(batch) if example.teacher_scores is not None]
    if taught:
        read = GraphScores(*(tensor[[i for i, _ in taught]] for tensor in scores))
        targets = make_teacher_targets([said for _, said in taught])
        loss = loss + compute_loss(read, targets, torch.ones(len(taught)))
    return loss


def _binary_loss(scores: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
    """Returns the sum of the cross-entropies of each caption's yes-or-no decisions, [B]."""
    return F.binary_cross_entropy_with_logits(scores, targets, weight, reduction="none").flatten(1).sum(1)
