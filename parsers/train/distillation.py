"""Knowledge distillation (arXiv 1503.02531): teachers read captions, and the network learns what they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from parsers.command import say
from parsers.neural.edits import makes_words
from parsers.neural.network import GraphScores, ParserNetwork
from parsers.train.examples import TrainingExample, cut_by_length


def add_teacher_scores(
    examples: Sequence[TrainingExample],
    teachers: Sequence[ParserNetwork],
    is_word: Callable[[str], bool],
    size: int = 128,
) -> list[TrainingExample]:
    """Returns the examples with what the teachers say of them, their log-odds averaged.

    Args:
        examples: captions with or without graphs.
        teachers: networks that share a vocabulary.
        is_word: tells words from what a wrong edit makes ("ladie" of "ladies"); such edits get no probability.
        size: captions that are read at a time.
    """
    started = time.monotonic()
    edits = teachers[0].vocabulary.edits
    mistaken: dict[str, Tensor] = {}  # for each form, which edits make no words of it
    found = list(examples)
    for numbers in cut_by_length(examples, size):
        captions = [examples[i].words for i in numbers]
        said = [_normalize_labels(teacher.score(captions)) for teacher in teachers]
        mean = GraphScores(*(torch.stack(tensors).mean(0).half() for tensors in zip(*said, strict=True)))
        for form in {form for words in captions for form in words.forms} - mistaken.keys():
            mistaken[form] = torch.tensor([not makes_words(edit, form, is_word) for edit in edits])
        wrong = torch.stack([torch.stack([mistaken[form] for form in words.forms]) for words in captions])
        mean = mean._replace(edits=mean.edits.masked_fill(wrong[:, :, None], -torch.inf))
        for i, *tensors in zip(numbers, *mean, strict=True):
            found[i] = replace(examples[i], teacher_scores=GraphScores(*tensors))
    say(f"the teachers read {len(examples):,} captions in {time.monotonic() - started:.0f} s")
    return found


def _normalize_labels(scores: GraphScores) -> GraphScores:
    """Turns the scores of labels and edits into log-probabilities, which can be averaged over teachers."""
    return scores._replace(relation_labels=scores.relation_labels.log_softmax(-1), edits=scores.edits.log_softmax(-1))
