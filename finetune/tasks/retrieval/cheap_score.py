"""A cheap score that chooses which pairs of a large split the whole model should score.

Two small networks map texts and images to vectors. Their inputs are the states of the fine-tuned model before texts and
images meet, pooled. They learn from the training split which caption belongs to which image (InfoNCE within a batch);
the fine-tuned model itself is not changed. The command `finetune.shortlist` trains them.

Shape suffixes: C captions, I images, D and V width of the text and of the image states, E width of the cheap vectors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finetune.task import Split
from finetune.tasks.retrieval.captions import RetrievalCaption, number_images
from finetune.tasks.retrieval.score_matrix import PairScorer
from finetune.tasks.retrieval.task import Retrieval
from parsers.checksums import sha256_of, write_checksums
from parsers.command import InputError, progress
from pretrain.model.encoder import WEIGHTS
from shards.schema import Array
from shards.storage.weights import load_weights, read_weights, read_weights_metadata, write_weights

WIDTH = 128
"""Numbers of a cheap vector."""
_POOLED = 1024
"""Number of texts or images that are pooled at once."""


class CheapScore(nn.Module):
    """The cosine between the vector of a text and the vector of an image, times a learned scale."""

    def __init__(self, text_width: int, image_width: int) -> None:
        """Takes the widths of pooled states, 2 D and 2 V."""
        super().__init__()
        self.text, self.image = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
            for width in (text_width, image_width)
        )
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, texts_C2D: Tensor, images_I2V: Tensor) -> Tensor:
        """Returns float [C, I]."""
        texts_CE, images_IE = self.vectors(texts_C2D, images_I2V)
        return self.log_scale.exp() * texts_CE @ images_IE.T

    def vectors(self, texts_C2D: Tensor, images_I2V: Tensor) -> tuple[Tensor, Tensor]:
        """Returns float [C, E] and [I, E]; every vector has length 1."""
        return F.normalize(self.text(texts_C2D), dim=1), F.normalize(self.image(images_I2V), dim=1)


@dataclass(frozen=True)
class PooledSplit:
    """The captions and images of a split before they meet, each pooled to one vector."""

    texts_C2D: Tensor
    """float32 [C, 2 D]"""
    images_I2V: Tensor
    """float32 [I, 2 V]"""
    own_C: Array
    """int64 [C], the number of each caption's image"""

    @cached_property
    def captions_by_image(self) -> list[Array]:
        """For each image int64, the numbers of its captions in ascending order."""
        order = np.argsort(self.own_C, kind="stable")
        starts = np.searchsorted(self.own_C[order], np.arange(1, len(self.images_I2V)))
        return np.split(order, starts)


def pool_split(scorer: PairScorer, task: Retrieval, split: Split[RetrievalCaption]) -> PooledSplit:
    """Encodes and pools all captions and images of a split."""
    images, own_C = number_images(split.examples)
    texts = [split.sources.texts.encode(caption.text, task.settings.max_text) for caption in split.examples]

    def join_parts(count: int, encode: Callable[[int], Tensor], unit: str) -> Tensor:
        with progress("encode", count, unit) as advance:
            found = []
            for start in range(0, count, _POOLED):
                found.append(encode(start))
                advance(len(found[-1]))
            return torch.cat(found)

    def encode_texts(start: int) -> Tensor:
        return scorer.encode_texts(texts[start : start + _POOLED]).pool()

    def encode_images(start: int) -> Tensor:
        chosen = images[start : start + _POOLED]
        return scorer.encode_images(split.sources.read_image(image) for image in chosen).pool()

    return PooledSplit(
        join_parts(len(texts), encode_texts, "caption"), join_parts(len(images), encode_images, "image"), own_C
    )


def train_cheap_score(training: PooledSplit, *, steps: int, batch_size: int = 256, seed: int = 0) -> CheapScore:
    """Learns which caption belongs to which image. The other pairs of a batch are the false ones.

    Args:
        training: the captions and images to learn from.
        steps: number of batches.
        batch_size: images of a batch, each with one of its captions.
        seed: seed of the weights, the order and the drawn captions.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = CheapScore(training.texts_C2D.shape[1], training.images_I2V.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    captions_by_image = training.captions_by_image
    counts = np.array([len(captions) for captions in captions_by_image])
    with progress("train", steps, "step") as advance:
        for _ in range(steps):
            images = random.permutation(len(counts))[:batch_size]
            drawn = zip(images, random.integers(0, counts[images]), strict=True)
            captions = np.array([captions_by_image[image][place] for image, place in drawn])
            scores = model(training.texts_C2D[captions], training.images_I2V[images])
            right = torch.arange(len(images))
            loss = (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            advance(1)
    return model.eval()


def choose_candidates(scores_CI: Array, length: int) -> Array:
    """Returns bool [C, I], the pairs to score with the whole model.

    Each caption gets its ``length`` best images. Each image gets its ``length`` best captions, times the mean number of
    captions of an image. So both directions need about as many pairs, and a pair that both choose is scored once.
    """
    captions, images = scores_CI.shape
    chosen = np.zeros(scores_CI.shape, bool)
    best = np.argpartition(-scores_CI, min(length, images) - 1, axis=1)[:, :length]
    np.put_along_axis(chosen, best, True, axis=1)
    depth = min(captions, length * -(-captions // images))
    best = np.argpartition(-scores_CI, depth - 1, axis=0)[:depth]
    np.put_along_axis(chosen, best, True, axis=0)
    return chosen


def measure_shortlist(chosen_CI: Array, own_C: Array) -> dict[str, float]:
    """Returns what a shortlist keeps and what it costs, as shares between 0 and 1.

    ``image`` is the share of captions whose image is on their list, ``text`` the share of images that have one of their
    captions on their list, and ``pairs`` the share of the pairs that are scored.
    """
    right_C = chosen_CI[np.arange(len(own_C)), own_C]
    with_text = np.zeros(chosen_CI.shape[1], bool)
    with_text[own_C[right_C]] = True
    return {"image": float(right_C.mean()), "text": float(with_text.mean()), "pairs": float(chosen_CI.mean())}


@torch.no_grad()
def compute_cheap_scores(model: CheapScore, split: PooledSplit) -> Array:
    """Returns float32 [C, I]: the cheap score of every caption with every image."""
    scores: Array = model(split.texts_C2D, split.images_I2V).numpy()
    return scores


@torch.no_grad()
def find_hard_negatives(
    model: CheapScore, split: PooledSplit, names: Sequence[str], count: int
) -> dict[str, list[str]]:
    """Finds for each image the ``count`` other images that fit one of its captions best.

    Args:
        model: the cheap score.
        split: the captions and images.
        names: the ids of the images.
        count: number of images to find.

    Returns:
        By image id, the ids of the others, the best one first.
    """
    texts_CE, images_IE = model.vectors(split.texts_C2D, split.images_I2V)
    found = {}
    with progress("negatives", len(names), "image") as advance:
        for image, (name, captions) in enumerate(zip(names, split.captions_by_image, strict=True)):
            fit_I = (texts_CE[captions] @ images_IE.T).amax(0)
            fit_I[image] = -torch.inf
            found[name] = [names[other] for other in fit_I.topk(min(count, len(names) - 1)).indices.tolist()]
            advance(1)
    return found


def save_cheap_score(model: CheapScore, path: Path, record: Mapping[str, object]) -> None:
    """Writes a trained score. ``record`` is JSON that says how it was trained; ``model`` is the model's checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_weights(model.state_dict(), path, {"record": json.dumps(record)})
    write_checksums(path.parent, [path.name])


def load_cheap_score(path: Path, model_folder: Path) -> CheapScore:
    """Reads a trained score for the model in a folder.

    Raises:
        InputError: the file holds no cheap score, or one that was trained on the states of another model.
    """
    try:
        record = json.loads(read_weights_metadata(path)["record"])
        weights = read_weights(path)
    except (InputError, KeyError) as error:
        raise InputError(f"{path}: is not a cheap score as finetune.shortlist writes it: {error}") from error
    if record["model"] != sha256_of(model_folder / WEIGHTS):
        raise InputError(f"{path}: was trained on the states of another model than {model_folder}; train one for it")
    model = CheapScore(weights["text.1.weight"].shape[1], weights["image.1.weight"].shape[1])
    load_weights(model, weights, path)
    return model.eval()
