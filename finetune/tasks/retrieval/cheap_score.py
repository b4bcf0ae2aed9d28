"""A cheap score that chooses which pairs of a large split are worth the whole model.

Two small networks on the states that the fine-tuned model has of texts and of images before they meet, pooled, learn
from the training split which caption is of which image (InfoNCE within a batch; the model itself stays as it is).
`finetune.shortlist` is the command that trains them.

Shape suffixes: C captions, I images, D and V width of the text and of the image states, E width of the cheap vectors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from finetune.task import Split
from finetune.tasks.retrieval.score_matrix import PairScorer
from finetune.tasks.retrieval.task import Caption, Retrieval, images_of
from parsers.command import InputError, progress
from pretrain.model.encoder import WEIGHTS
from shards.schema import Array
from shards.storage.files import sha256_of

WIDTH = 128
_POOLED = 1024
"""Texts or images that are pooled at once."""


class CheapScore(nn.Module):
    """The cosine of a vector of the text and one of the image."""

    def __init__(self, text_width: int, image_width: int) -> None:
        """Takes the widths of pooled states, 2 D and 2 V."""
        super().__init__()
        self.text, self.image = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
            for width in (text_width, image_width)
        )
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, texts_C2D: Tensor, images_I2V: Tensor) -> Tensor:
        """Return float [C, I]."""
        texts_CE, images_IE = self.vectors(texts_C2D, images_I2V)
        return self.log_scale.exp() * texts_CE @ images_IE.T

    def vectors(self, texts_C2D: Tensor, images_I2V: Tensor) -> tuple[Tensor, Tensor]:
        """Return float [C, E] and [I, E], of length 1."""
        return F.normalize(self.text(texts_C2D), dim=1), F.normalize(self.image(images_I2V), dim=1)


def pool(scorer: PairScorer, task: Retrieval, split: Split[Caption]) -> tuple[Tensor, Tensor, Array]:
    """The pooled states of a split: float32 [C, 2 D] and [I, 2 V], and int64 [C], each caption's image."""
    images, own_C = images_of(split.examples)
    texts = [split.sources.texts.text(caption.text, task.settings.max_text) for caption in split.examples]

    def parts(count: int, encode: Callable[[int], Tensor], unit: str) -> Tensor:
        with progress("encode", count, unit) as advance:
            found = []
            for start in range(0, count, _POOLED):
                found.append(encode(start))
                advance(len(found[-1]))
            return torch.cat(found)

    def some_texts(start: int) -> Tensor:
        return scorer.encode_texts(texts[start : start + _POOLED]).pooled()

    def some_images(start: int) -> Tensor:
        chosen = images[start : start + _POOLED]
        return scorer.encode_images(split.sources.image(image) for image in chosen).pooled()

    return parts(len(texts), some_texts, "caption"), parts(len(images), some_images, "image"), own_C


def train(
    texts_C2D: Tensor, images_I2V: Tensor, own_C: Array, *, steps: int, batch_size: int = 256, seed: int = 0
) -> CheapScore:
    """Learns which caption is of which image, the other pairs of a batch being the false ones.

    Args:
        texts_C2D: float32, pooled states of the captions.
        images_I2V: float32, pooled states of the images.
        own_C: int64, the image of each caption.
        steps: of the training.
        batch_size: images of a batch, each with one of its captions.
        seed: of weights, order and draws.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = CheapScore(texts_C2D.shape[1], images_I2V.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    by_image = np.argsort(own_C, kind="stable")
    starts = np.searchsorted(own_C[by_image], np.arange(len(images_I2V) + 1))
    with progress("train", steps, "step") as advance:
        for _ in range(steps):
            images = random.permutation(len(images_I2V))[:batch_size]
            captions = by_image[random.integers(starts[images], starts[images + 1])]
            scores = model(texts_C2D[captions], images_I2V[images])
            right = torch.arange(len(images))
            loss = (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            advance(1)
    return model.eval()


def candidates(scores_CI: Array, length: int) -> Array:
    """bool [C, I]: for each caption its ``length`` best images, for each image as many captions for each of its own.

    So both directions score about as many pairs; they share what is in both.
    """
    captions, images = scores_CI.shape
    chosen = np.zeros(scores_CI.shape, bool)
    best = np.argpartition(-scores_CI, min(length, images) - 1, axis=1)[:, :length]
    np.put_along_axis(chosen, best, True, axis=1)
    depth = min(captions, length * -(-captions // images))
    best = np.argpartition(-scores_CI, depth - 1, axis=0)[:depth]
    np.put_along_axis(chosen, best, True, axis=0)
    return chosen


def kept(chosen_CI: Array, own_C: Array) -> dict[str, float]:
    """What a shortlist leaves possible and what it costs.

    ``image``: share of captions whose image is on the list; ``text``: share of images with a caption of theirs on it;
    ``pairs``: share of the pairs that are scored.
    """
    right_C = chosen_CI[np.arange(len(own_C)), own_C]
    with_text = np.zeros(chosen_CI.shape[1], bool)
    with_text[own_C[right_C]] = True
    return {"image": float(right_C.mean()), "text": float(with_text.mean()), "pairs": float(chosen_CI.mean())}


@torch.no_grad()
def cheap_scores(model: CheapScore, texts_C2D: Tensor, images_I2V: Tensor) -> Array:
    """float32 [C, I]."""
    scores: Array = model(texts_C2D, images_I2V).numpy()
    return scores


@torch.no_grad()
def hard_negatives(
    model: CheapScore, texts_C2D: Tensor, images_I2V: Tensor, own_C: Array, names: Sequence[str], count: int
) -> dict[str, list[str]]:
    """For each image, by name, the ``count`` other ones that one of its captions fits best, the best first."""
    by_image = np.argsort(own_C, kind="stable")
    starts = np.searchsorted(own_C[by_image], np.arange(len(names) + 1))
    texts_CE, images_IE = model.vectors(texts_C2D, images_I2V)
    found = {}
    with progress("negatives", len(names), "image") as advance:
        for image, name in enumerate(names):
            captions = by_image[starts[image] : starts[image + 1]]
            fit_I = (texts_CE[captions] @ images_IE.T).amax(0)
            fit_I[image] = -torch.inf
            found[name] = [names[other] for other in fit_I.topk(min(count, len(names) - 1)).indices.tolist()]
            advance(1)
    return found


def save(model: CheapScore, path: Path, record: dict[str, Any]) -> None:
    """Writes a trained score; ``record`` says of what model it is and how it was trained."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path, metadata={"record": json.dumps(record)})


def load_cheap_score(path: Path, model_folder: Path) -> CheapScore:
    """A trained score.

    Raises:
        InputError: it is none, or was trained on the states of another model.
    """
    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {})["record"])
        weights = load_file(path)
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path}: is no score of finetune.shortlist: {error}") from error
    if record["model"] != sha256_of(model_folder / WEIGHTS):
        raise InputError(f"{path}: was trained on the states of another model than {model_folder}; train one for it")
    model = CheapScore(weights["text.1.weight"].shape[1], weights["image.1.weight"].shape[1])
    model.load_state_dict(weights)
    return model.eval()
