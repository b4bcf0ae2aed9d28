"""Corrects misspelt words: in FACTUAL's captions, as in most that people type, one word in fifty is misspelt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from parsers.neural.tokenizer import TokenizedCaption

SHORTEST_SWAPPED, SHORTEST_WRONG, SHORTEST_DROPPED = 4, 4, 5
"""Letters of the shortest words in which swapped, wrong, and dropped or doubled letters are corrected.

In a word of `SHORTEST_WRONG` letters, the first letter counts as right and no letter as added.
"""
MAX_KEPT = 200_000
"""Number of unknown words whose correction is remembered."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class SpellingCorrector:
    """Replaces an unknown word by a frequent one that differs in a single letter, or in two swapped ones.

    For instance, "plaet" and "olate" become "plate".

    Args:
        known: words that are right as they are, including those of `find_lookalikes`.
        frequent: words that may be meant, the most frequent first.
    """

    def __init__(self, known: Collection[str], frequent: Sequence[str]) -> None:
        self._known = frozenset(known)
        self._rank = {word: rank for rank, word in enumerate(frequent)}
        self._near: dict[str, list[str]] = {}
        for word in frequent:
            for shortened in (word, *_shorten(word)):
                self._near.setdefault(shortened, []).append(word)
        self._corrected: dict[str, str] = {}

    def __call__(self, words: TokenizedCaption) -> TokenizedCaption:
        """Returns the words with corrected forms and the same offsets."""
        forms = [form if form in self._known else self._correct(form) for form in words.forms]
        return TokenizedCaption(forms, words.offsets)

    def _correct(self, form: str) -> str:
        if form not in self._corrected:
            if len(self._corrected) >= MAX_KEPT:
                self._corrected.clear()
            self._corrected[form] = self._find_meant(form) if form.isascii() and form.isalpha() else form
        return self._corrected[form]

    def _find_meant(self, form: str) -> str:
        """Returns the most frequent word that may be meant, or the form itself.

        Swapped, doubled and dropped letters are tried first, because people make these mistakes more often than wrong
        and added letters.
        """
        # If one slip turns a word into another, the two are equal once a letter is taken from one or from both of them.
        near = {word for shortened in (form, *_shorten(form)) for word in self._near.get(shortened, ())}
        for undo in (_undo_likely_slips, _undo_other_slips) if near else ():
            meant = near.intersection(undo(form))
            if meant:
                return min(meant, key=self._rank.__getitem__)
        return form


def find_lookalikes(frequent: Iterable[str], is_word: Callable[[str], bool]) -> list[str]:
    """Returns the words that look like misspellings of frequent ones, in alphabetical order: "slate" beside "plate".

    Args:
        frequent: the words that others may look like.
        is_word: tells words from misspellings.
    """
    # A form is corrected to a frequent word if a slip leads to it from that word: the opposite slip leads back.
    near = {form for word in frequent if word.isalpha() and word.isascii() for form in _list_slips(word)}
    return sorted(form for form in near if is_word(form))


def _shorten(word: str) -> Iterator[str]:
    return (word[:i] + word[i + 1 :] for i in range(len(word)))


def _undo_likely_slips(form: str) -> Iterator[str]:
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


def _undo_other_slips(form: str) -> Iterator[str]:
    is_long = len(form) > SHORTEST_WRONG
    if is_long:
        yield from _shorten(form)
    if len(form) >= SHORTEST_WRONG:
        for i in range(0 if is_long else 1, len(form)):
            for letter in LETTERS:
                yield form[:i] + letter + form[i + 1 :]


def _list_slips(word: str) -> Iterator[str]:
    yield from _shorten(word)
    for i in range(len(word)):
        yield word[:i] + word[i : i + 2][::-1] + word[i + 2 :]
        for letter in LETTERS:
            yield word[:i] + letter + word[i + 1 :]
            yield word[:i] + letter + word[i:]
    yield from (word + letter for letter in LETTERS)
