"""Repairs slips of the pen: FACTUAL's captions, as most that people type, have one in every fifty."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from parsers.neural.words import Words

SHORTEST_SWAPPED, SHORTEST_WRONG, SHORTEST_DROPPED = 4, 4, 5
"""Letters of the shortest words in which swapped, wrong, and dropped or doubled letters are repaired.

In one that is no longer than the shortest, the first letter is right and none was added.
"""
MOST_REPAIRED = 200_000
"""Unknown words whose repair is kept at hand."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Speller:
    """Reads an unknown word as a frequent one that is a single letter away, or two that changed places.

    Args:
        known: words that are right as they are, among them those of `lookalikes`.
        frequent: words that may be meant, the most frequent first.
    """

    def __init__(self, known: Collection[str], frequent: Sequence[str]) -> None:
        self._known = frozenset(known)
        self._rank = {word: rank for rank, word in enumerate(frequent)}
        self._near: dict[str, list[str]] = {}
        for word in frequent:
            for shortened in (word, *_shortened(word)):
                self._near.setdefault(shortened, []).append(word)
        self._repaired: dict[str, str] = {}

    def __call__(self, words: Words) -> Words:
        """The words with repaired forms; their places stay."""
        return Words([form if form in self._known else self._repair(form) for form in words.forms], words.places)

    def _repair(self, form: str) -> str:
        if form not in self._repaired:
            if len(self._repaired) >= MOST_REPAIRED:
                self._repaired.clear()
            self._repaired[form] = self._meant(form) if form.isascii() and form.isalpha() else form
        return self._repaired[form]

    def _meant(self, form: str) -> str:
        """Swapped, doubled and dropped letters are tried before wrong and added ones: they are the likelier slips."""
        # Two words that are a slip apart are the same, or one is the other, once a letter is taken from each.
        near = {word for shortened in (form, *_shortened(form)) for word in self._near.get(shortened, ())}
        for slips in (_slips, _other_slips) if near else ():
            meant = near.intersection(slips(form))
            if meant:
                return min(meant, key=self._rank.__getitem__)
        return form


def lookalikes(frequent: Iterable[str], is_word: Callable[[str], bool]) -> list[str]:
    """The words that would pass for slips of frequent ones, in alphabetical order: "slate" for "plate".

    Args:
        frequent: what they look like.
        is_word: tells words from slips.
    """
    # What a slip turned into a frequent word, the opposite slip turns back.
    near = {form for word in frequent if word.isalpha() and word.isascii() for form in _variants(word)}
    return sorted(form for form in near if is_word(form))


def _shortened(word: str) -> Iterator[str]:
    return (word[:i] + word[i + 1 :] for i in range(len(word)))


def _slips(form: str) -> Iterator[str]:
    if len(form) >= SHORTEST_SWAPPED:
        for i in range(1, len(form) - 1):
            yield form[:i] + form[i + 1] + form[i] + form[i + 2 :]
    if len(form) >= SHORTEST_DROPPED:
        for i in range(1, len(form)):
            if form[i] == form[i - 1]:
                yield form[:i] + form[i + 1 :]
        for i in range(1, len(form) + 1):
            for letter in LETTERS:
                yield form[:i] + letter + form[i:]


def _other_slips(form: str) -> Iterator[str]:
    is_long = len(form) > SHORTEST_WRONG
    if is_long:
        yield from _shortened(form)
    if len(form) >= SHORTEST_WRONG:
        for i in range(0 if is_long else 1, len(form)):
            for letter in LETTERS:
                yield form[:i] + letter + form[i + 1 :]


def _variants(word: str) -> Iterator[str]:
    yield from _shortened(word)
    for i in range(len(word)):
        yield word[:i] + word[i : i + 2][::-1] + word[i + 2 :]
        for letter in LETTERS:
            yield word[:i] + letter + word[i + 1 :]
            yield word[:i] + letter + word[i:]
    yield from (word + letter for letter in LETTERS)
