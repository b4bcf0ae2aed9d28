"""Training examples and their batches."""

import numpy as np

from parsers.neural.tokenizer import tokenize
from parsers.train.examples import (
    MAX_WORDS,
    TrainingExample,
    cut_by_length,
    make_batches,
    select_complete,
    select_short,
)


def test_a_batch_keeps_captions_of_equal_length(align):
    examples = [TrainingExample(tokenize("a " * n), align(tokenize("a " * n), [])) for n in (1, 2, 3, 2, 1, 2)]
    found = list(make_batches(examples, 2, np.random.default_rng(0)))
    assert sorted(len(example.words) for batch in found for example in batch) == [1, 1, 2, 2, 2, 3]
    assert all(len({len(example.words) for example in batch}) == 1 and len(batch) <= 2 for batch in found)


def test_examples_are_cut_in_their_order():
    examples = [TrainingExample(tokenize("a " * n), None) for n in (2, 1, 2, 2, 1)]
    assert list(cut_by_length([example.words for example in examples], 2)) == [[0, 2], [3], [1, 4]]


def test_only_examples_with_whole_graphs_are_learned(align):
    whole, lacking = (
        TrainingExample(tokenize("a dog"), align(tokenize("a dog"), triples))
        for triples in ([("dog",)], [("dog", "on", "sofa")])
    )
    unread = TrainingExample(tokenize("a dog"), None)
    empty = TrainingExample(tokenize(""), align(tokenize(""), []))
    assert select_complete([whole, lacking, unread, empty]) == [whole]


def test_empty_and_long_captions_are_left_out():
    examples = [TrainingExample(tokenize("a " * n), None) for n in (0, 1, MAX_WORDS, MAX_WORDS + 1)]
    assert select_short(examples) == examples[1:3]
