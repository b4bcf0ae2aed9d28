"""The scores of guessing on a test split. The training split may be used to guess better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from finetune.task import Split
from finetune.tasks.refcoco_plus import HIT, Expression, RefcocoPlus
from finetune.tasks.retrieval.captions import RetrievalCaption
from finetune.tasks.retrieval.ranking import RECALLS
from finetune.tasks.retrieval.task import Retrieval
from finetune.tasks.vcr import Vcr
from finetune.tasks.vcr_files import VcrQuestion
from finetune.tasks.vqa import Vqa, VqaPrediction, VqaQuestion
from shards.boxes import intersection_over_union

Scores = dict[str, float]


def guess_answers(training: Split[VqaQuestion], test: Split[VqaQuestion], task: Vqa) -> Scores:
    """Gives every question the most frequent answer of the training questions."""
    answers = [question.main_answer for question in training.examples if question.main_answer is not None]
    answer = max(sorted(set(answers)), key=answers.count)
    guesses: list[VqaPrediction] = [{"question_id": q.question_id, "answer": answer} for q in test.examples]
    return task.evaluate(guesses, test.examples)


def guess_choices(_training: Split[VcrQuestion], _test: Split[VcrQuestion], _task: Vcr) -> Scores:
    """Chooses any of the four answers and any of the four rationales."""
    return {"Q->A": 1 / 4, "QA->R": 1 / 4, "Q->AR": 1 / 16}


def guess_ranks(_: Split[RetrievalCaption], test: Split[RetrievalCaption], task: Retrieval) -> Scores:
    """Ranks in random order: the expected recalls, where an image has c of the C captions of I images.

    An image is among the first K of I with probability K / I. None of its c captions is among the first K of C with
    probability (C - c) / C * (C - c - 1) / (C - 1) * ..., a product of K factors. Example: with 6 images of 3 captions
    each, image R@1 is 1/6 and text R@1 is 1 - 15/18 = 1/6.
    """
    captions = len(test.examples)
    own = np.array(list(Counter(caption.image_id for caption in test.examples).values()))
    scores = {}
    for k in RECALLS:
        drawn = np.arange(min(k, captions))[:, None]
        missed = np.clip((captions - own - drawn) / (captions - drawn), 0, 1).prod(0)
        scores[f"image/R@{k}"] = min(1.0, k / len(own))
        scores[f"text/R@{k}"] = 1 - float(missed.mean())
    return {task.metric: sum(scores.values()) / len(scores), **scores}


def guess_regions(_: Split[Expression], test: Split[Expression], task: RefcocoPlus) -> Scores:
    """Chooses any of the regions: the mean share of an image's regions that are right."""
    hits = []
    for expression in test.examples:
        boxes = test.sources.images[expression.image_id].regions.boxes
        hits.append((intersection_over_union(boxes, np.array([expression.box])) >= HIT).mean())
    return {task.metric: float(np.mean(hits))}


GUESSES: Mapping[str, Callable[..., Scores]] = {
    "vqa": guess_answers,
    "vcr": guess_choices,
    "retrieval": guess_ranks,
    "refcoco_plus": guess_regions,
}
"""For each task what guesses; it takes the training split, the test split and the task."""
