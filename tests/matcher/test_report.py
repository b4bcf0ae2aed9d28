import numpy as np

from matcher.report import WrongPair, find_wrong_pairs


def test_wrong_pairs_are_ranked_from_the_worst_and_a_tie_is_wrong():
    scores = np.array([[3, 1, 0], [5, 2, 4], [1, 1, 0], [9, 0, 8]], np.float32)
    own = np.array([0, 1, 1, 2])
    found = find_wrong_pairs(["right", "last of three", "tied", "second"], scores, ["a", "b", "c"], own)
    assert found == [
        WrongPair("last of three", 3, "b", "a", 3.0),
        WrongPair("second", 2, "c", "a", 1.0),
        WrongPair("tied", 2, "b", "a", 0.0),
    ]
