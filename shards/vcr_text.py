"""The texts of VCR (https://visualcommonsense.com), in which a list of numbers stands for tagged objects.

Task pretraining and fine-tuning read them alike, and as the released ``reader/vcr_finetuning.py`` does: a tagged person
becomes a name, any other tagged object becomes its class, and objects that are tagged together stand side by side. Say
the objects are a person, a person and a dog, and the persons are called Riley and Pat: then
``["Why", "is", [0, 1], "near", [2], "?"]`` becomes "Why is Riley Pat near dog ?".

The released code draws a name anew for each person in every run. Here the names follow from the question's number.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from itertools import chain, cycle
from pathlib import Path

import numpy as np

from parsers.command import pluralize
from shards.random_numbers import generator

PEOPLE = (
    *("Avery", "Casey", "Frankie", "Jackie", "Jaime", "Jessie", "Jody", "Kendall", "Kerry", "Pat", "Peyton", "Quinn"),
    *("Riley", "Skyler"),
)
"""The gender-neutral names of VCR's authors (``GENDER_NEUTRAL_NAMES`` of their code, each once)."""

Word = str | list[int]
"""A word, or the numbers of the objects that are meant."""


def read_names(path: Path) -> list[str]:
    """Reads names of people: the released ``unisex_names_table.csv``, or a file with one name a line.

    Raises:
        ValueError: the file cannot be read or holds no names.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    names = [row[0] for row in rows if row] if all(len(row) < 2 for row in rows) else [row[1] for row in rows[1:]]
    if not names:
        raise ValueError(f"{path}: holds no names")
    return names


def question_number(annot_id: str) -> int:
    """Returns the number of a question: 17 for ``train-17``.

    Raises:
        ValueError: the id is not of this form.
    """
    number = annot_id.partition("-")[2].partition("-")[0]
    if not number.isdecimal():
        raise ValueError(f"annot_id {annot_id!r} is not of the form train-17")
    return int(number)


def check_words(words: Sequence[Word], objects: Sequence[str]) -> tuple[Word, ...]:
    """Returns the words of a text, whose tags are known to be numbers of ``objects``.

    Raises:
        ValueError: a tag is not the number of an object.
        TypeError: ``words`` is no list of words and lists of whole numbers.
    """
    for word in words:
        if not isinstance(word, str) and not all(0 <= number < len(objects) for number in word):
            raise ValueError(f"{word} is outside the list of {pluralize(len(objects), 'object')}")
    return tuple(sys.intern(word) if isinstance(word, str) else word for word in words)


def name_objects(objects: Sequence[str], people: Sequence[str], number: int) -> list[str]:
    """Returns what the objects of a question are called: a person by a name, anything else by its class.

    Args:
        objects: the class of each object.
        people: the names to choose from. Two persons share a name only if there are more persons than names.
        number: the question's number, from which the choice follows.
    """
    drawn = cycle(generator(0, 0, number).permutation(np.array(people)).tolist())
    return [next(drawn) if kind == "person" else kind for kind in objects]


def to_sentence(words: Sequence[Word], names: Sequence[str]) -> str:
    """Returns the text with spaces between its words; each tag becomes the names of its objects."""
    parts = ([word] if isinstance(word, str) else [names[number] for number in word] for word in words)
    return " ".join(chain.from_iterable(parts))
