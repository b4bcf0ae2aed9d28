"""Checks that the tasks share: does a file have its layout, and are predictions those of the examples?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from parsers.command import InputError

P = TypeVar("P")
_LONGEST_REASON = 200
"""Characters of a reason: a damaged file may hold a value of any length."""


@contextmanager
def expect_layout(path: Path, layout: str) -> Iterator[None]:
    """Turns the error of a missing key or a wrong value, while a file is read, into one that names the file.

    Raises:
        InputError: the file does not have the ``layout``, e.g. "a list of question_id and answer".
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not {layout}: {error!r:.{_LONGEST_REASON}}") from error


def read_integer(value: object) -> int:
    """Returns an integer that a file holds as a number or as text; 3.0 is 3. Raises ValueError for anything else."""
    whole = isinstance(value, int | str) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool):
        raise ValueError(f"{value!r} is no integer")
    return int(value)  # type: ignore[call-overload, no-any-return]


def read_text(value: object) -> str:
    """Returns a text. Raises ValueError for anything else: null is no text, and nor is a list of words."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def read_example_id(value: object) -> str:
    """Returns an id, which a file may hold as a number or as text. Raises ValueError for anything else."""
    return value if isinstance(value, str) and value else str(read_integer(value))


def match_predictions(
    predictions: Sequence[P], wanted: Sequence[str | int], key: Callable[[P], str | int], what: str
) -> list[P]:
    """Returns the predictions in the order of the examples.

    Args:
        predictions: one for each example, in any order.
        wanted: the ids of the examples.
        key: returns the id of a prediction's example.
        what: what the examples are called in a message, e.g. "questions".

    Raises:
        InputError: an example has no prediction or several, or a prediction is of no example.
    """
    found = {key(prediction): prediction for prediction in predictions}
    missing, unknown = set(wanted) - found.keys(), found.keys() - set(wanted)
    if missing or unknown or len(found) < len(predictions):
        raise InputError(
            f"the predictions are not those of the {len(wanted):,} {what} of the split: {_list(missing)} missing, "
            f"{_list(unknown)} unknown, {len(predictions) - len(found):,} repeated; predict the same split again"
        )
    return [found[number] for number in wanted]


def _list(ids: set[str | int]) -> str:
    """The number of ids with an example, such as ``2 (e.g. 17)``."""
    return f"{len(ids):,} (e.g. {min(ids, key=str)})" if ids else "0"
