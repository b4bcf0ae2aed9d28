"""The detector of the toy world."""

import numpy as np

from pipeline import detectors
from tests.pipeline.extract.pictures import noise


def test_a_thin_picture_changes_nothing_of_those_that_follow(weights):
    first, second = (detectors.get("toyworld", weights=str(weights)) for _ in range(2))
    second.detect([np.asarray(noise(0, (640, 72)))])
    picture = np.asarray(noise(1, (80, 60)))
    (expected,), (found,) = first.detect([picture]), second.detect([picture])
    assert np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.features, expected.features)


def test_half_precision_is_close(weights):
    exact, half = (detectors.get("toyworld", weights=str(weights), precision=p) for p in ("fp32", "bf16"))
    picture, boxes = np.asarray(noise(0, (96, 64))), np.array([[0, 0, 50, 50], [20, 10, 90, 60]], np.float32)
    (a,), (b,) = exact.detect([picture], [boxes]), half.detect([picture], [boxes])
    assert (a.features.dtype, b.features.dtype) == (np.float32, np.float32)
    assert 0 < np.abs(a.features - b.features).max() < 0.1 * np.abs(a.features).max()
