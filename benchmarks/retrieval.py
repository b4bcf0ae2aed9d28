"""Scoring every caption of Flickr30k's test split with every image: ``python -m benchmarks.retrieval --size base``.

1,000 images of 10 to 36 regions, 5,000 captions; lengths and features are generated, weights are random. The whole
would take days on a CPU, so a slice is timed: pairs of captions and images from all over the matrix. The contestants
take turns, in seconds of the CPU, on one thread:

- from scratch, every text and every image padded to the longest of the split;
- from scratch, padded to the longest of the batch, captions in any order;
- `finetune.tasks.retrieval.score_matrix`, with the share of a pair in encoding its caption and its image once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from benchmarks.results import compare, publish
from benchmarks.turns import ROUNDS, Out, Rounds, cpu, machine, ratio, spread, take_turns
from finetune.heads import FineTunedModel, RetrievalHead
from finetune.inputs import ImageRows, Sources, TokenizedText
from finetune.tasks.retrieval.score_matrix import PairScorer
from parsers.command import run
from pretrain.model.config import ModelConfig
from shards.schema import Array

IMAGES, CAPTIONS = 1000, 5000
WHOLE, BATCH, CACHED = "from scratch, padded to the longest", "from scratch, padded per batch", "score_matrix"
app = typer.Typer(add_completion=False)


class _Padding:
    """Stands for a tokenizer, of which padding needs one id alone."""

    pad = 0


class _Features:
    """Stands for images, of which padding needs the size of features alone."""

    def __init__(self, feature_size: int) -> None:
        self.feature_size = feature_size


class Slice:
    """The lengths of a whole split, and some of its pairs."""

    def __init__(self, config: ModelConfig, pairs: int, strata: int) -> None:
        """Draws word pieces with [CLS] and [SEP], median 14, as Flickr30k's captions have about, and image rows."""
        random = np.random.default_rng(0)
        self._config, self._random = config, random
        self.text_lengths = np.sort(np.clip(np.exp(random.normal(np.log(14), 0.4, CAPTIONS)).round(), 5, 80)).astype(
            int
        )
        self.rows = np.sort(random.integers(11, 38, IMAGES))
        self.sources = Sources(_Padding(), _Features(config.v_feature_size))  # type: ignore[arg-type]
        texts, images = 4, pairs // 4
        middles = (np.arange(strata) + 0.5) / strata
        starts = zip(middles, random.permutation(middles), strict=True)
        self.near = [self._some(int(a * CAPTIONS), texts, int(b * IMAGES), images) for a, b in starts]
        self.mixed = [self._any(texts, images) for _ in range(strata)]

    def _some(self, caption: int, texts: int, image: int, images: int) -> tuple[list[TokenizedText], list[ImageRows]]:
        """Returns captions and images that are neighbours in length, as the score matrix puts them together."""
        caption, image = min(caption, CAPTIONS - texts), min(image, IMAGES - images)
        return self._make(self.text_lengths[caption : caption + texts], self.rows[image : image + images])

    def _any(self, texts: int, images: int) -> tuple[list[TokenizedText], list[ImageRows]]:
        return self._make(self._random.choice(self.text_lengths, texts), self._random.choice(self.rows, images))

    def _make(self, text_lengths: Array, rows: Array) -> tuple[list[TokenizedText], list[ImageRows]]:
        random, config = self._random, self._config
        ids = [random.integers(1, config.vocab_size, length) for length in text_lengths]
        return (
            [TokenizedText(pieces, np.zeros_like(pieces)) for pieces in ids],
            [
                ImageRows(
                    random.random((count, config.v_feature_size), np.float32), random.random((count, 5), np.float32)
                )
                for count in rows
            ],
        )

    def padded(self, part: tuple[list[TokenizedText], list[ImageRows]], *, longest: bool) -> dict[str, Any]:
        """Returns all pairs of the texts and images of a part, as the inputs of a plain forward pass.

        Args:
            part: some texts and some images.
            longest: pads to the longest text and image of the whole split; otherwise to those of the part.
        """
        texts, images = part
        pairs = [(text, image) for text in texts for image in images]
        inputs = self.sources.pad([text for text, _ in pairs], [image for _, image in pairs])
        if not longest:
            return inputs
        filled: dict[str, Any] = {}
        for name, size in (("text_mask", int(self.text_lengths[-1])), ("image_mask", int(self.rows[-1]))):
            tensor = inputs["token_ids" if name == "text_mask" else "features"]
            assert tensor is not None
            mask = inputs[name]
            mask = torch.ones(tensor.shape[:2], dtype=torch.bool) if mask is None else mask
            filled[name] = torch.nn.functional.pad(mask, (0, size - mask.shape[1]))
        for name in ("token_ids", "position_ids", "segment_ids", "features", "locations"):
            tensor = inputs[name]
            assert tensor is not None
            mask = filled["text_mask" if tensor.ndim == 2 else "image_mask"]
            extra = (0, 0) * (tensor.ndim - 2) + (0, mask.shape[1] - tensor.shape[1])
            filled[name] = torch.nn.functional.pad(tensor, extra)
        return filled


def measure(config: ModelConfig, *, pairs: int, strata: int, rounds: int) -> dict[str, list[float]]:
    """Times the contestants on slices of the matrix.

    Args:
        config: size of the model. The weights are random.
        pairs: number of pairs in a batch, a multiple of 4.
        strata: number of places of the matrix that are timed.
        rounds: how often everything is timed.

    Returns:
        For each contestant the CPU seconds per pair in each round, as a mean over the places.
    """
    torch.manual_seed(0)
    model = FineTunedModel(config, RetrievalHead(config)).eval()
    part = Slice(config, pairs, strata)
    scorer = PairScorer(model, part.sources, device=torch.device("cpu"), batch_size=pairs)
    every = np.argwhere(np.ones((4, pairs // 4), bool))
    seconds = {name: np.zeros(rounds) for name in (WHOLE, BATCH, CACHED)}
    with torch.no_grad():
        for near, mixed in zip(part.near, part.mixed, strict=True):
            texts, images = scorer.encode_texts(near[0]), scorer.encode_images(near[1])
            whole, batch = part.padded(near, longest=True), part.padded(mixed, longest=False)
            works: dict[str, Callable[[], Any]] = {
                WHOLE: partial(model, **whole),
                BATCH: partial(model, **batch),
                CACHED: partial(scorer.score, texts, images, every),
                "texts": partial(scorer.encode_texts, near[0]),
                "images": partial(scorer.encode_images, near[1]),
            }
            found = {name: np.array(cpu(turns)) for name, turns in take_turns(works, rounds).items()}
            once = found["texts"] / 4 / IMAGES + found["images"] / (pairs // 4) / CAPTIONS
            for name in seconds:
                seconds[name] += (found[name] / pairs + (once if name == CACHED else 0)) / strata
    return {name: found.tolist() for name, found in seconds.items()}


@app.command(epilog="Example: python -m benchmarks.retrieval --size large")
def main(
    config: Annotated[str, typer.Option("--size", help="base, large, or a JSON file.")] = "base",
    pairs: Annotated[int, typer.Option("--batch-size", min=4, help="Pairs of a batch, a multiple of 4.")] = 16,
    strata: Annotated[int, typer.Option(min=1, help="Places of the matrix that are timed.")] = 4,
    rounds: Rounds = ROUNDS,
    out: Out = None,
) -> None:
    """Time the scoring of pairs: padded to the longest of all, to the longest of a batch, and by score_matrix."""
    torch.set_num_threads(1)
    seconds = measure(ModelConfig.of_size(config), pairs=pairs, strata=strata, rounds=rounds)
    title = f"{Path(config).stem}: {CAPTIONS:,} captions with {IMAGES:,} images, one CPU thread; {machine()}"
    table = Table("", "pairs a CPU second", "as fast", "CPU hours for all", title=title, title_justify="left")
    for name, values in seconds.items():
        table.add_row(
            name,
            f"{1 / spread(values).median:.2f}",
            f"× {ratio(values, seconds[WHOLE]):.2f}",
            f"{spread(values).median * IMAGES * CAPTIONS / 3600:.0f}",
        )
    comparisons = [
        compare(
            "scoring captions with images, `score_matrix`",
            f"the same model {peer}",
            seconds[CACHED],
            seconds[peer],
            unit="s a pair",
            fair="the same pairs with the same weights. The released code scores each pair from scratch, padded to a "
            "fixed length; padding to the longest of a batch is the usual improvement. Ours encodes each caption "
            "and image once, and its time has the share of a pair in that.",
        )
        for peer in (WHOLE, BATCH)
    ]
    publish([table], comparisons, out)


if __name__ == "__main__":
    run(app)
