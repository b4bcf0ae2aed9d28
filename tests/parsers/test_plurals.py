"""How messages count."""

import pytest

from parsers.command import pluralize


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [
        (0, "part", "0 parts"),
        (1, "part", "1 part"),
        (2, "part", "2 parts"),
        (12_345, "held-out image", "12,345 held-out images"),
        (1, "batch", "1 batch"),
        (3, "batch", "3 batches"),
        (2, "box", "2 boxes"),
    ],
)
def test_one_is_one_and_all_else_is_many(number, noun, expected):
    assert pluralize(number, noun) == expected
