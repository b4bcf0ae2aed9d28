"""Soft-SPICE (arXiv 2305.17497): the tuples of two graphs are compared by the vectors of their words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from parsers import Parser
from parsers.command import InputError
from parsers.gold import IS, Triple, list_objects
from parsers.spice.scorer import CaptionScores, average
from parsers.spice.tuples import Captions, Count, ImageTriples, ignore, parse_captions

IMAGES = 1000
"""Images whose vectors are in memory at the same time."""


class SentenceEncoder(Protocol):
    """Turns texts into vectors, as the models of the package ``sentence-transformers`` do."""

    def encode(self, sentences: list[str]) -> npt.NDArray[np.float32]:
        """Returns one row for each text."""
        ...


def load_encoder(name: str) -> SentenceEncoder:
    """Loads a model of ``sentence-transformers`` from a folder, or by its name from the Hugging Face hub.

    Raises:
        InputError: the package is not installed, or there is no such model.
    """
    try:
        from sentence_transformers import SentenceTransformer  # imported late: it takes seconds
    except ImportError as error:
        raise InputError(
            f"Soft-SPICE needs the package sentence-transformers ({error}): pip install "
            "'ernie-vil-pytorch[soft-spice]' installs it"
        ) from error
    try:
        encoder: SentenceEncoder = SentenceTransformer(name)
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: is no model that sentence-transformers can load: {error}") from error
    return encoder


class SoftSpice:
    """Scores captions by how near their tuples are to the tuples of the references.

    Each tuple is written as a phrase: "dog", "black dog", "dog on sofa". A phrase of the caption is worth its largest
    cosine to a phrase of the references. The mean of these is the precision ``pr``, which is FACTUAL's Soft-SPICE. The
    recall ``re`` is the same from the references to the caption. The score ``f`` is what FACTUAL calls bidirectional:
    both are brought from -1..1 to 0..1, and their harmonic mean is taken. So a caption that leaves things out loses.

    Args:
        parser: makes the graphs.
        encoder: makes the vectors; see `load_encoder`.
    """

    def __init__(self, parser: Parser, encoder: SentenceEncoder) -> None:
        self._parser = parser
        self._encoder = encoder

    def method(self) -> str:
        """Returns the name of the metric, as pycocoevalcap's scorers do."""
        return "Soft-SPICE"

    def compute_score(self, gts: Captions, res: Captions) -> tuple[float, list[CaptionScores]]:
        """Scores one candidate for each image. Arguments, errors and result are those of `Spice.compute_score`.

        All figures are under the kind ``All``. They are 0 if the caption or its references have no tuple.
        """
        scores = self.score(parse_captions(self._parser, gts, res))
        return average(scores)["All"]["f"], scores

    def score(self, images: Sequence[ImageTriples], advance: Count = ignore) -> list[CaptionScores]:
        """Returns the scores of captions that are parsed already, and tells now and then how many are done."""
        scores: list[CaptionScores] = []
        for start in range(0, len(images), IMAGES):
            some = images[start : start + IMAGES]
            scores.extend(self._score_some(some))
            advance(len(some))
        return scores

    def _score_some(self, images: Sequence[ImageTriples]) -> Iterator[CaptionScores]:
        pairs = [(list_phrases(image.candidate), list_phrases(image.references)) for image in images]
        rows = {phrase: i for i, phrase in enumerate(dict.fromkeys(p for pair in pairs for side in pair for p in side))}
        vectors = self._encode(list(rows))
        for pair in pairs:
            found, true = (vectors[[rows[phrase] for phrase in side]] for side in pair)
            yield {"All": _compare(found @ true.T)}

    def _encode(self, phrases: list[str]) -> npt.NDArray[np.float32]:
        """Returns a row of length 1 for each phrase. A row of zeros stays as it is."""
        if not phrases:
            return np.zeros((0, 1), np.float32)
        vectors = np.array(self._encoder.encode(phrases), np.float32)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors


def _compare(cosines: npt.NDArray[np.float32]) -> dict[str, float]:
    """Returns the figures of a caption from the cosines of its phrases (rows) to those of the references (columns)."""
    if not cosines.size:
        return {"pr": 0.0, "re": 0.0, "f": 0.0}
    precision, recall = float(cosines.max(axis=1).mean()), float(cosines.max(axis=0).mean())
    shares = [(1 + precision) / 2, (1 + recall) / 2]
    return {"pr": precision, "re": recall, "f": 2 * shares[0] * shares[1] / max(sum(shares), np.finfo(float).tiny)}


def list_phrases(triples: Iterable[Triple]) -> list[str]:
    """Returns the tuples of a graph as phrases, each once: objects, attributes with their object, and relations."""
    phrases: dict[str, None] = {}
    for triple in triples:
        phrases |= dict.fromkeys(list_objects(triple))
        if len(triple) == 3:
            phrases[f"{triple[2]} {triple[0]}" if triple[1] == IS else " ".join(triple)] = None
    return list(phrases)
