"""The vocabulary of the network: what its numbers stand for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words, edits and relation labels that a network knows, each by its number."""

    words: tuple[str, ...]
    """word forms, the frequent ones first; number 0 is the empty text and stands for any other word"""
    edits: tuple[str, ...]
    """see `parsers.neural.edits`"""
    relation_labels: tuple[str, ...]
    """whole labels of relations; number 0 is the empty text and means that edits make the label of the words"""
    frequent_words: int
    """how many of the words are frequent; they are numbers 1 to ``frequent_words``"""
    lookalikes: tuple[str, ...] = ()
    """words outside the vocabulary that look like misspellings of frequent ones and are none, in alphabetical order"""
