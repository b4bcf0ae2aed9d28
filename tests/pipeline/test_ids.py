"""Ids of every kind become text, or are refused."""

import numpy as np
import pytest

from pipeline.ids import read_id


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a.jpg", "a.jpg"),
        (" a", " a"),
        ("007", "007"),
        (285, "285"),
        (285.0, "285"),
        ("285.0", "285"),
        (b"285", "285"),
        ("ä".encode(), "ä"),
        (np.int64(285), "285"),
        (np.float32(285), "285"),
        (np.array([285]), "285"),
        (np.array(["a"]), "a"),
        (np.array(b"a"), "a"),
        ([["a"]], "a"),
        ((3,), "3"),
        (2**70, str(2**70)),
        ("1e5", "1e5"),
        ("1.jpg", "1.jpg"),
    ],
)
def test_an_id_is_read(value, text):
    assert read_id(value) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no image_id"),
        ("", "no image_id"),
        (True, "no image_id"),
        (float("nan"), "no image_id"),
        (np.float64("nan"), "no image_id"),
        ([], "no image_id"),
        ([1, 2], "no image_id"),
        ({}, "no image_id"),
        (285.5, "image_id is 285.5, not a name"),
        ("285.5", "image_id is 285.5, not a name"),
        (1e17, "image_id is 1e+17, not a name"),
        (float("inf"), "image_id is inf, not a name"),
        (b"\xff", "image_id is not UTF-8"),
    ],
)
def test_what_is_no_id_is_refused(value, reason):
    with pytest.raises(ValueError, match=rf"^{reason.replace('+', chr(92) + '+')}$"):
        read_id(value)
