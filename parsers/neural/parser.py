"""The neural parser: a small network that needs no spaCy, its weights shipped with the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors.torch import load_file
from safetensors.torch import save as save_weights

from parsers.graph import SceneGraph
from parsers.neural.decode import Decoder
from parsers.neural.inference import Inference
from parsers.neural.network import Encoder, Labels, Network, WordEncoder
from parsers.neural.pieces import TOKENIZER, PieceEncoder, read_tokenizer
from parsers.neural.spelling import Speller
from parsers.neural.words import Words, split

MODEL = Path(__file__).parent / "model"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
CUBES_PER_BATCH = 2_000_000
"""Anchor-subject-object scores at a time; bounds the memory of long captions."""
MOST_CAPTIONS = 128
"""At a time: enough for matrices to be fast, few enough for the processor's cache."""


def save(network: Network, folder: Path) -> None:
    """Writes ``config.json`` and ``model.safetensors`` (float16), and ``tokenizer.json`` of a network over BERT."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"encoder": network.encoder.config, "arc": network.arc, **network.labels.to_dict()}
    if isinstance(network.encoder, PieceEncoder):
        network.encoder.tokenizer.save(str(folder / TOKENIZER))
    (folder / CONFIG).write_text(json.dumps(config, ensure_ascii=False) + "\n", encoding="utf-8")
    weights = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save_weights(weights))  # `save_file` makes files that only their owner can read


def load(folder: Path) -> Network:
    """Reads what `save` wrote, in evaluation mode.

    Raises:
        OSError: a file is missing.
    """
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    labels = Labels.from_dict(config)
    encoder: Encoder
    if (folder / TOKENIZER).is_file():
        encoder = PieceEncoder(config["encoder"], read_tokenizer(folder))
    else:
        encoder = WordEncoder(labels.words, **config["encoder"])
    network = Network(encoder, labels, arc=config["arc"])
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()})
    return network.eval()


class NeuralParser:
    """Scene graphs by a network of 2.5 million weights, trained on FACTUAL; see ``docs/parsers.md``.

    Args:
        model: folder of a model made by ``python -m parsers.train``; the shipped one if not given.
        device: "cpu" or "cuda".

    Raises:
        OSError: the folder holds no model.
    """

    name = "neural"

    def __init__(self, model: str | Path = MODEL, device: str = "cpu") -> None:
        folder = Path(model)
        network = load(folder).to(device)
        self._score = Inference(network) if isinstance(network.encoder, WordEncoder) else network.score
        checksum = hashlib.sha256((folder / CONFIG).read_bytes() + (folder / WEIGHTS).read_bytes()).hexdigest()[:12]
        self.version = f"model {checksum}"
        labels = network.labels
        self._decode = Decoder(labels)
        self._respell = Speller((*labels.words, *labels.lookalikes), labels.words[1 : labels.frequent + 1])

    def parse(self, captions: Sequence[str]) -> list[SceneGraph]:
        """One graph for each caption, in the same order. Captions of equal length are read together."""
        if isinstance(self._score, Inference):
            self._score.forget()
        words = [self._respell(split(caption)) for caption in captions]
        graphs: dict[int, SceneGraph] = {}
        for numbers in _batches(words):
            batch = [words[i] for i in numbers]
            graphs |= zip(numbers, self._decode([captions[i] for i in numbers], batch, self._score(batch)), strict=True)
        return [graphs[i] if i in graphs else SceneGraph(caption) for i, caption in enumerate(captions)]


def _batches(words: Sequence[Words]) -> Iterator[list[int]]:
    """Numbers of captions of equal length, the short ones first; captions without words are left out."""
    by_length: dict[int, list[int]] = {}
    for i, split_caption in enumerate(words):
        if len(split_caption):
            by_length.setdefault(len(split_caption), []).append(i)
    for length, numbers in sorted(by_length.items()):
        size = max(1, min(MOST_CAPTIONS, CUBES_PER_BATCH // length**3))
        yield from (numbers[i : i + size] for i in range(0, len(numbers), size))
