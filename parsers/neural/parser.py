"""The neural parser: a small network that needs no spaCy, its weights shipped with the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from parsers.corrections import correct
from parsers.graph import SceneGraph
from parsers.neural.coreference import join_sentences
from parsers.neural.decode import Decoder
from parsers.neural.inference import Inference
from parsers.neural.model_folder import compute_checksum, load_parser_network
from parsers.neural.sentences import find_sentences
from parsers.neural.spelling import SpellingCorrector
from parsers.neural.tokenizer import TokenizedCaption, group_by_length, tokenize
from parsers.neural.vocabulary import Vocabulary
from parsers.neural.word_encoder import WordEncoder

RULES_VERSION = "3"
"""This changes with the rules around the network: for sentences, decoding, corrections and mentions."""
MODEL = Path(__file__).parent / "model"
SCORES_PER_BATCH = 2_000_000
"""Number of anchor-subject-object scores in a batch; it bounds the memory that long captions take."""
MAX_CAPTIONS = 128
"""Captions in a batch: enough for fast matrix products, few enough for the processor's cache."""


class NeuralParser:
    """Builds scene graphs with a network of 2.5 million weights, trained on FACTUAL; see ``docs/parsers.md``.

    Args:
        model: the folder of a model that ``python -m parsers.train`` made; the shipped one if not given.
        device: "cpu" or "cuda".

    Raises:
        OSError: the folder holds no model.
    """

    name = "neural"

    def __init__(self, model: str | Path = MODEL, device: str = "cpu") -> None:
        folder = Path(model)
        network = load_parser_network(folder).to(device)
        self.version = f"model {compute_checksum(folder)}, rules {RULES_VERSION}"
        self._score = Inference(network) if isinstance(network.encoder, WordEncoder) else network.score
        self._decode = Decoder(network.vocabulary)
        self._correct = make_corrector(network.vocabulary)

    def parse(self, captions: Sequence[str]) -> list[SceneGraph]:
        """Returns one graph for each caption, in the same order.

        A longer text is read sentence by sentence, and the mentions of a thing are joined. Sentences of equal length
        are read together.
        """
        if isinstance(self._score, Inference):
            self._score.forget()
        cuts = [find_sentences(caption) for caption in captions]
        sentences = [caption[start:end] for caption, ends in zip(captions, cuts, strict=True) for start, end in ends]
        graphs = iter(self._parse_sentences(sentences))
        found = []
        for caption, ends in zip(captions, cuts, strict=True):
            parts = [(start, next(graphs)) for start, _ in ends]
            found.append(join_sentences(caption, parts))
        return found

    def _parse_sentences(self, sentences: Sequence[str]) -> list[SceneGraph]:
        words = [self._correct(tokenize(sentence)) for sentence in sentences]
        graphs: dict[int, SceneGraph] = {}
        for numbers in _make_batches(words):
            batch = [words[i] for i in numbers]
            found = self._decode([sentences[i] for i in numbers], batch, self._score(batch))
            graphs |= zip(numbers, map(correct, found), strict=True)
        return [graphs[i] if i in graphs else SceneGraph(sentence) for i, sentence in enumerate(sentences)]


def make_corrector(vocabulary: Vocabulary) -> SpellingCorrector:
    """Returns what corrects captions before a network with this vocabulary reads them."""
    frequent = vocabulary.words[1 : vocabulary.frequent_words + 1]
    return SpellingCorrector((*vocabulary.words, *vocabulary.lookalikes), frequent)


def _make_batches(words: Sequence[TokenizedCaption]) -> Iterator[list[int]]:
    """Yields the numbers of captions of equal length, short ones first; captions without words are left out."""
    for length, numbers in sorted(group_by_length(words).items()):
        if length:
            size = max(1, min(MAX_CAPTIONS, SCORES_PER_BATCH // length**3))
            yield from (numbers[i : i + size] for i in range(0, len(numbers), size))
