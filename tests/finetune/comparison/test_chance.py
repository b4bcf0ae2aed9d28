"""The scores of guessing beside those of guesses."""

import numpy as np
import pytest

from finetune.comparison.chance import guess_answers
from finetune.comparison.runs import Comparison
from finetune.task import Split
from finetune.tasks.retrieval.ranking import compute_recalls, rank
from finetune.tasks.vqa import Vqa, VqaQuestion, VqaSettings


@pytest.fixture
def comparison(toys):
    return Comparison(toys.world, toys.regions, toys.gold_regions, toys.world)


def test_recalls_of_guessing_are_those_of_random_orders(comparison, start):
    found = comparison.guess("retrieval", start)
    random, own = np.random.default_rng(0), np.repeat(np.arange(6), 3)
    guessed = []
    for _ in range(400):
        ranks = rank(random.random((18, 6)), own)
        guessed.append(compute_recalls(ranks.images, ranks.texts))
    for name in guessed[0]:
        assert found[f"test/{name}"] == pytest.approx(np.mean([g[name] for g in guessed]), abs=0.03)


def test_regions_are_guessed_among_those_of_the_image(comparison, start):
    found = comparison.guess("refcoco_plus", start)
    assert 0.15 < found["testA/accuracy"] < 0.6


def test_answers_are_guessed_by_how_often_they_are_right_in_training():
    def questions(*answers):
        return Split(
            [
                VqaQuestion(n, "1", "?", targets={a: 1.0}, answers=(a,) * 10, main_answer=a, answer_type="other")
                for n, a in enumerate(answers)
            ],
            None,
        )

    found = guess_answers(questions("red", "red", "blue"), questions("blue", "red", "red", "red"), Vqa(VqaSettings()))
    assert found == {"accuracy": 0.75, "accuracy/other": 0.75}


def test_choices_are_guessed_among_four(comparison, start):
    assert comparison.guess("vcr", start) == {"test/Q->A": 1 / 4, "test/QA->R": 1 / 4, "test/Q->AR": 1 / 16}
