"""Training examples: captions with what is known about their graphs, and batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parsers.neural.tokenizer import TokenizedCaption, group_by_length
from parsers.train.alignment import AlignedGraph

MAX_WORDS = 40
"""Words of the longest caption that is learned from."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What teachers say of a caption: the probabilities of its decisions that are not near zero."""

    numbers: NDArray[np.uint32]
    """the places of the probabilities in `Targets` whose tensors stand one behind the other"""
    probabilities: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A caption with what is known of its graph."""

    words: TokenizedCaption
    graph: AlignedGraph | None
    """the graph; none if only teachers have read the caption"""
    weight: float = 1.0
    """how much the graph counts in the loss; 0 without a graph"""
    hidden: frozenset[int] | None = frozenset()
    """the words that stand for objects and attributes nobody can see; None: not known which these are"""
    reading: Reading | None = None
    """what the teachers say on average"""


def select_complete(examples: Iterable[TrainingExample]) -> list[TrainingExample]:
    """Returns the examples with at least one word whose whole graph could be tied to words, in their order.

    If nodes are missing in an aligned graph, the network would learn to leave such nodes out.
    """
    return [example for example in examples if len(example.words) and example.graph and not example.graph.missing]


def select_short(examples: Iterable[TrainingExample]) -> list[TrainingExample]:
    """Returns the examples of 1 to `MAX_WORDS` words."""
    return [example for example in examples if 1 <= len(example.words) <= MAX_WORDS]


def cut_by_length(captions: Sequence[TokenizedCaption], size: int) -> Iterator[list[int]]:
    """Yields the numbers of at most ``size`` captions of equal length at a time, in the order of the captions."""
    for numbers in group_by_length(captions).values():
        yield from (numbers[i : i + size] for i in range(0, len(numbers), size))


def make_batches(
    examples: Sequence[TrainingExample], size: int, rng: np.random.Generator
) -> Iterator[list[TrainingExample]]:
    """Yields one epoch: random batches of examples of equal length, in random order."""
    shuffled = [examples[i] for i in rng.permutation(len(examples))]
    batches = list(cut_by_length([example.words for example in shuffled], size))
    for i in rng.permutation(len(batches)).tolist():
        yield [shuffled[j] for j in batches[i]]
