"""The nodes of scene graphs in the order in which shards number them.

The nodes of a graph are its objects, then its attributes, then its relations. A sample numbers the nodes of all its
captions one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from parsers.graph import SceneGraph, Span
from shards.schema import ATTRIBUTE, OBJECT, RELATION, Array


class Node(NamedTuple):
    """An object, an attribute or a relation of a scene graph."""

    kind: int
    """`shards.schema.OBJECT`, `ATTRIBUTE` or `RELATION`"""
    lemma: str
    spans: tuple[Span, ...]
    """the words of the caption that the node stands for: each mention of an object, and none where the parser inferred
    the relation"""
    arguments: tuple[int, ...]
    """numbers of the objects that an attribute (1) or a relation (2: subject, object) is about, in their graph"""


def list_nodes(graph: SceneGraph) -> list[Node]:
    """The nodes of a graph in their order."""
    return [
        *(Node(OBJECT, item.lemma, item.spans, ()) for item in graph.objects),
        *(Node(ATTRIBUTE, item.lemma, (item.span,), (item.object,)) for item in graph.attributes),
        *(Node(RELATION, item.lemma, item.spans, (item.subject, item.object)) for item in graph.relations),
    ]


def list_spans(graph: SceneGraph) -> list[tuple[int, Span]]:
    """The words of a caption that its nodes stand for, each with the number of its node.

    Where spans overlap, the last one in this list is the one to show: attributes over relations over objects.
    """
    nodes = list_nodes(graph)
    return [
        (number, span)
        for kind in (OBJECT, RELATION, ATTRIBUTE)
        for number, node in enumerate(nodes)
        if node.kind == kind
        for span in node.spans
    ]


def number_nodes(graphs: Sequence[SceneGraph]) -> tuple[Array, Array, Array]:
    """``node_kind``, ``node_caption`` and ``node_args`` of `shards.schema.Masks` for the graphs of a sample's captions.

    For the captions "red hat" and "man on mat" these are::

        number        0        1          2        3        4
        node          hat      hat-red    man      mat      man-on-mat
        node_kind     0        1          0        0        2
        node_caption  0        0          1        1        1
        node_args     -1 -1    0 -1       -1 -1    -1 -1    2 3

    Returns:
        int64 [nodes], int64 [nodes] and int64 [nodes, 2].
    """
    kinds: list[int] = []
    captions: list[int] = []
    arguments: list[tuple[int, int]] = []
    for caption, graph in enumerate(graphs):
        first = len(kinds)
        for node in list_nodes(graph):
            kinds.append(node.kind)
            captions.append(caption)
            one, other = (*(first + argument for argument in node.arguments), -1, -1)[:2]
            arguments.append((one, other))
    return np.array(kinds, np.int64), np.array(captions, np.int64), np.array(arguments, np.int64).reshape(-1, 2)
