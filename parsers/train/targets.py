"""Training targets: what graphs or teachers say of a batch, and the loss of the network's scores against it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from parsers.neural.network import KINDS, ROLES, VISIBLE, GraphScores
from parsers.neural.vocabulary import Vocabulary
from parsers.train.examples import Reading, TrainingExample
from parsers.train.labels import list_edits, list_relation_labels

LEAST_PROBABILITY = 0.005
"""Smaller ones are taken for zero where targets are kept."""


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

    def to(self, device: torch.device) -> Targets:
        """Returns the targets on a device."""
        return Targets(*(tensor.to(device) for tensor in self))


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


def make_teacher_targets(scores: GraphScores) -> Targets:
    """Makes targets of what teachers say of captions of equal length.

    The labels of a word count as much as the teachers believe that the word plays the part: if a word is an object with
    a probability of 0.7, the probabilities of its edits as an object add up to 0.7.
    """
    roles, attributes = scores.roles.sigmoid(), scores.attributes.sigmoid()
    relations, relation_words = scores.relations().sigmoid(), scores.relation_words.sigmoid()
    anchors = relations.flatten(2).amax(2)
    spoken = torch.maximum(anchors, (anchors[:, :, None] * relation_words).amax(1))
    nodes = torch.maximum(roles[:, :, ROLES.index("object")], attributes.amax(2))
    parts = torch.stack([roles[:, :, ROLES.index("object")], attributes.amax(2), spoken], dim=-1)
    return Targets(
        roles,
        nodes,
        attributes,
        relations,
        relation_words,
        anchors,
        scores.relation_labels.softmax(-1) * anchors[..., None],
        scores.edits.softmax(-1) * parts[..., None],
    )


def compress(targets: Targets) -> list[Reading]:
    """Returns the targets of each caption without those below `LEAST_PROBABILITY`, which are nearly all."""
    flat = torch.cat([tensor.flatten(1) for tensor in targets], dim=1)
    captions, numbers = (flat >= LEAST_PROBABILITY).nonzero(as_tuple=True)
    probabilities = flat[captions, numbers].half().cpu().numpy()
    ends = captions.bincount(minlength=len(flat)).cumsum(0)[:-1].tolist()
    cut = (np.split(array, ends) for array in (numbers.cpu().numpy().astype(np.uint32), probabilities))
    return [Reading(*arrays) for arrays in zip(*cut, strict=True)]


def expand(readings: Sequence[Reading], length: int, vocabulary: Vocabulary) -> Targets:
    """Returns the targets of captions of ``length`` words each, what was left out as zeros."""
    shapes = _shape_targets(length, vocabulary)
    sizes = [math.prod(shape) for shape in shapes]
    flat = np.zeros((len(readings), sum(sizes)), np.float32)
    captions = np.repeat(np.arange(len(readings)), [len(reading.numbers) for reading in readings])
    numbers, probabilities = (
        np.concatenate(arrays) for arrays in zip(*((r.numbers, r.probabilities) for r in readings), strict=True)
    )
    flat[captions, numbers] = probabilities
    parts = torch.split(torch.from_numpy(flat), sizes, dim=1)
    return Targets(*(part.reshape(len(readings), *shape) for part, shape in zip(parts, shapes, strict=True)))


def _shape_targets(length: int, vocabulary: Vocabulary) -> tuple[tuple[int, ...], ...]:
    """Returns the shapes of one caption's `Targets`, in their order."""
    return (
        (length, len(ROLES)),
        (length,),
        (length, length),
        (length, length, length),
        (length, length),
        (length,),
        (length, len(vocabulary.relation_labels)),
        (length, len(KINDS), len(vocabulary.edits)),
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
    """Returns the loss of a batch by its graphs, plus the loss by what its teachers say."""
    device = scores.roles.device
    weights = torch.tensor([example.weight for example in batch], device=device)
    loss = compute_loss(scores, make_graph_targets(batch, vocabulary).to(device), weights)
    taught = [(i, example.reading) for i, example in enumerate(batch) if example.reading is not None]
    if taught:
        read = GraphScores(*(tensor[[i for i, _ in taught]] for tensor in scores))
        targets = expand([reading for _, reading in taught], len(batch[0].words), vocabulary)
        loss = loss + compute_loss(read, targets.to(device), torch.ones(len(taught), device=device))
    return loss


def _binary_loss(scores: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
    """Returns the sum of the cross-entropies of each caption's yes-or-no decisions, [B]."""
    return F.binary_cross_entropy_with_logits(scores, targets, weight, reduction="none").flatten(1).sum(1)
