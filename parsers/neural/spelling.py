"""Repairs slips of the pen: FACTUAL's captions, as most that people type, have one in every fifty."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from parsers.neural.words import Words

SHORTEST_SWAPPED, SHORTEST_DROPPED = 4, 5
"""Letters of the shortest words in which swapped, and dropped or doubled, letters are repaired."""
MOST_REPAIRED = 200_000
"""Unknown words whose repair is kept at hand."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Speller:
    """Reads an unknown word as a frequent one if two letters were swapped, one was dropped or one was doubled.

    A wrong or an added letter is not repaired: that would turn too many rare words into frequent ones. The first letter
    is never touched.

    Args:
        known: words that are right as they are.
        frequent: words that may be meant, the most frequent first.
    """

    def __init__(self, known: Collection[str], frequent: Sequence[str]) -> None:
        self._known = frozenset(known)
        self._rank = {word: rank for rank, word in enumerate(frequent)}
        self._repaired: dict[str, str] = {}

    def __call__(self, words: Words) -> Words:
        """The words with repaired forms; their places stay."""
        return Words([form if form in self._known else self._repair(form) for form in words.forms], words.places)

    def _repair(self, form: str) -> str:
        if form not in self._repaired:
            if len(self._repaired) >= MOST_REPAIRED:
                self._repaired.clear()
            meant = [word for word in _nearby(form) if word in self._rank] if form.isascii() and form.isalpha() else []
            self._repaired[form] = min(meant, key=self._rank.__getitem__, default=form)
        return self._repaired[form]


def _nearby(form: str) -> Iterator[str]:
    if len(form) >= SHORTEST_SWAPPED:
        for i in range(1, len(form) - 1):
            yield form[:i] + form[i + 1] + form[i] + form[i + 2 :]
    if len(form) >= SHORTEST_DROPPED:
        for i in range(1, len(form)):
            if form[i] == form[i - 1]:
                yield form[:i] + form[i + 1 :]
            for letter in LETTERS:
                yield form[:i] + letter + form[i:]
