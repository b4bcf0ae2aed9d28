"""VQA accuracy as the official evaluator computes it (github.com/GT-Vision-Lab/VQA, vqaEvaluation/vqaEval.py)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_GROUPED_DIGITS = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_MOST_FULL_STOPS = 32
"""The evaluator passes the flag `re.UNICODE`, which is 32, where `re.sub` takes a count."""
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBERS)}}
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
# The evaluator's table maps each contraction without one of its apostrophes to the contraction; one entry is reversed.
_CONTRACTIONS = {
    word[: apostrophe.start()] + word[apostrophe.end() :]: word
    for word in re.findall(r"\S+", _CONTRACTED)
    for apostrophe in re.finditer("'", word)
} | {"somebody'd": "somebodyd"}


def _clean(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(answer: str) -> str:
    """Removes punctuation.

    A mark becomes a space. It vanishes if it also stands beside a space in the answer, or if a number like 1,000 is in
    the answer.
    """
    grouped = _GROUPED_DIGITS.search(answer) is not None
    text = answer
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if grouped or beside_space else " ")
    return _FULL_STOP.sub("", text, count=_MOST_FULL_STOPS)


@lru_cache(1 << 16)
def normalise(answer: str) -> str:
    """Returns an answer in the form in which answers are compared.

    It is in lower case, without punctuation and articles, with digits for the numbers up to ten and with the
    apostrophes of contractions.
    """
    text = _without_punctuation(_clean(answer))
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def compute_accuracy(answer: str, annotated: Sequence[str]) -> float:
    """Returns how right an answer is, between 0 and 1.

    For each annotator, count a third for every other annotator who gave this answer, at most 1; then average over the
    annotators. As in the evaluator's present version, no answer is normalised where all annotators agree.

    Args:
        answer: the answer of a model.
        annotated: the ten answers of the annotators.
    """
    given, annotated = _clean(answer), [_clean(other) for other in annotated]
    if len(set(annotated)) > 1:
        given, annotated = normalise(given), [normalise(other) for other in annotated]
    matches = sum(other == given for other in annotated)
    return sum(min(1.0, (matches - (other == given)) / 3) for other in annotated) / len(annotated)
