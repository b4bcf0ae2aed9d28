"""The cheap score, and the pairs that it chooses."""

import numpy as np

from finetune.tasks.retrieval.cheap_score import choose_candidates, measure_shortlist


def test_what_a_shortlist_keeps():
    scores = np.array([[9.0, 1, 2, 3], [1, 9, 3, 2], [5, 6, 1, 2], [1, 2, 3, 9]])
    chosen = choose_candidates(scores, 1)
    assert chosen.sum() >= 4
    assert (chosen[np.arange(4), scores.argmax(1)]).all()
    assert (chosen[scores.argmax(0), np.arange(4)]).all()
    assert measure_shortlist(chosen, np.array([0, 1, 2, 3])) == {"image": 3 / 4, "text": 3 / 4, "pairs": chosen.mean()}
    assert choose_candidates(scores, 4).all()
