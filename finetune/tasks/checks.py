"""Checks that the tasks share: does a file have its layout, and are predictions those of the examples?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from parsers.command import InputError

P = TypeVar("P")


@contextmanager
def expect_layout(path: Path, layout: str) -> Iterator[None]:
    """Turns the error of a missing key or a wrong value, while a file is read, into one that names the file.

    Raises:
        InputError: the file does not have the ``layout``, e.g. "a list of question_id and answer".
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not {layout}: {error!r}") from error


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
