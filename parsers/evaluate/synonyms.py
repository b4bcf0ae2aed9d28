"""Synonyms for SPICE, from WordNet's synsets as the SPICE distribution ships them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path

SYNSETS, EXCEPTIONS = "english.synsets", "english.exceptions"


class WordNetSynonyms:
    """Looks up the WordNet synsets of phrases.

    Args:
        folder: holds ``english.exceptions`` and ``english.synsets``. Both consist of pairs of lines: a word and the
            numbers of its synsets, or a base form and its irregular forms.
    """

    _ENDINGS = (
        ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
        ("ies", "y"), ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"),
        ("ing", ""), ("er", ""), ("est", ""), ("er", "e"), ("est", "e"),
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _synsets(self) -> Mapping[str, frozenset[str]]:
        return {word: frozenset(numbers.split()) for word, numbers in _read_pairs(self._folder / SYNSETS)}

    @cached_property
    def _bases(self) -> Mapping[str, list[str]]:
        bases: dict[str, list[str]] = {}
        for base, forms in _read_pairs(self._folder / EXCEPTIONS):
            for form in forms.split():
                bases.setdefault(form, []).append(base)
        return bases

    @cache  # noqa: B019 (a command builds one instance and keeps it to its end)
    def __call__(self, phrase: str) -> frozenset[str]:
        """Returns the numbers of the synsets of the phrase and of its stem; the set may be empty."""
        word = "_".join(phrase.lower().split())
        stems = self._bases.get(word) or [self._stem(word)]
        return frozenset().union(*(self._synsets.get(form, frozenset()) for form in (word, *stems)))

    def _stem(self, word: str) -> str:
        if word.endswith("ful"):
            return word[:-3] if word[:-3] in self._synsets else word
        if word.endswith("ss") or len(word) <= 2:
            return word
        stems = (word[: -len(end)] + new for end, new in self._ENDINGS if word.endswith(end))
        return next((stem for stem in stems if stem in self._synsets), word)


def find_synonyms() -> WordNetSynonyms | None:
    """Returns WordNet's synonyms if the package ``FactualSceneGraph`` is installed; the package is not imported."""
    package = importlib.util.find_spec("factual_scene_graph")
    if package is None or not package.submodule_search_locations:
        return None
    folder = Path(package.submodule_search_locations[0]) / "evaluation/resources"
    return WordNetSynonyms(folder) if (folder / SYNSETS).is_file() else None


def _read_pairs(path: Path) -> Iterable[tuple[str, str]]:
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    return ((first.strip(), second.strip()) for first, second in zip(lines, lines, strict=True))
