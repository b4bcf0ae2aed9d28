"""SPICE of captions (arXiv 1607.08822), with the interface of pycocoevalcap's scorers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from parsers import Parser
from parsers.evaluate.evaluation import Agreement
from parsers.evaluate.scoring import Synonyms, count_matches, list_nodes
from parsers.evaluate.synonyms import load_synonyms
from parsers.gold import Triple
from parsers.lemmatizer import Lemmatizer
from parsers.spice.kinds import KINDS
from parsers.spice.tuples import Captions, Count, ImageTriples, ignore, parse_captions, split_compounds

CaptionScores = dict[str, dict[str, float]]
"""For each kind of tuples precision ``pr``, recall ``re`` and their F1 ``f``, 0 to 1. ``All`` is the whole caption."""

MISSING = {"pr": math.nan, "re": math.nan, "f": math.nan}


class Spice:
    """Scores captions by the tuples that their graphs share with the graphs of the references.

    Tuples are objects, attributes and relations. The graphs of an image's references are merged into one. Words are
    compared by their noun lemmas and WordNet's synonyms, and names of several words are split (`split_compounds`).

    Args:
        parser: makes the graphs; ``parsers.get("neural")`` is the default of the command.
        synonyms: False if only equal words shall match.

    Raises:
        InputError: WordNet is not installed.
    """

    def __init__(self, parser: Parser, *, synonyms: bool = True) -> None:
        self._parser = parser
        self._lemmatizer = Lemmatizer()
        self._synonyms: Synonyms | None = load_synonyms(self._lemmatizer) if synonyms else None

    def method(self) -> str:
        """Returns the name of the metric, as pycocoevalcap's scorers do."""
        return "SPICE"

    def compute_score(self, gts: Captions, res: Captions) -> tuple[float, list[CaptionScores]]:
        """Scores one candidate for each image.

        Args:
            gts: the references of each image, at least one.
            res: for the same images a list of one candidate.

        Returns:
            The mean of the captions' scores, and the scores of each caption in the order of ``gts``. Where the
            references have no tuple of a kind, its three figures are NaN.

        Raises:
            ValueError: the ids differ, or there is not one candidate.
        """
        scores = self.score(parse_captions(self._parser, gts, res))
        return average(scores)["All"]["f"], scores

    def score(self, images: Sequence[ImageTriples], advance: Count = ignore) -> list[CaptionScores]:
        """Returns the scores of captions that are parsed already, and tells image by image that it is done."""
        scores = []
        for image in images:
            scores.append(self._score_image(image))
            advance(1)
        return scores

    def _score_image(self, image: ImageTriples) -> CaptionScores:
        found, true = (
            list_nodes(self._normalise(side), self._synonyms) for side in (image.candidate, image.references)
        )
        scores: CaptionScores = {}
        for kind, belongs in KINDS.items():
            some, others = list(filter(belongs, found)), list(filter(belongs, true))
            both = count_matches(some, others, self._synonyms)
            agreement = Agreement(len(some), len(others), both)
            scores[kind] = {"pr": agreement.precision, "re": agreement.recall, "f": agreement.f1}
            if kind != "All" and not others:
                scores[kind] = dict(MISSING)
        return scores

    def _normalise(self, triples: Sequence[Triple]) -> list[Triple]:
        return split_compounds(map(self._lemmatizer.triple, triples))


def average(scores: Sequence[CaptionScores]) -> CaptionScores:
    """Returns the mean of each figure over the captions that have it, and as ``numImages`` how many have it."""
    return {kind: _average([score[kind] for score in scores]) for kind in (scores[0] if scores else ())}


def _average(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    known = [score for score in scores if not math.isnan(score["f"])]
    if not known:
        return {**MISSING, "numImages": 0}
    means = {name: math.fsum(score[name] for score in known) / len(known) for name in MISSING}
    return {**means, "numImages": len(known)}
