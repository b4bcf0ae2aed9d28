"""Image and text retrieval (Flickr30k, COCO): which image a caption is of, and which caption an image has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from finetune.heads import RetrievalHead, retrieval_loss
from finetune.inputs import Batch
from finetune.released.tsv import is_released
from finetune.task import Prediction, Settings, Split, Task
from finetune.tasks.retrieval.ranking import rank, rank_in_folds, recalls
from finetune.tasks.retrieval.score_matrix import Matrix, PairScorer, Precision, States
from parsers.command import InputError, pluralize
from pretrain.model.config import ModelConfig
from shards.schema import Array
from shards.storage import pickles
from shards.storage.files import read_json, write_json

if TYPE_CHECKING:
    from pretrain.training.distributed import World

Kind = Literal["easy_images", "hard_images", "easy_captions", "hard_captions"]
BEST = 10
"""Images that are written for each caption."""


class RetrievalSettings(Settings):
    """How many false pairs a true one is shown with, and the loss; by default as the released code ran.

    A false pair has another image or another caption: a random one (easy), or one of those that ``hard_negatives``
    names for the image (hard). The paper's 20 negatives are of all kinds.
    """

    easy_images: Annotated[int, Field(ge=0)] = 20
    hard_images: Annotated[int, Field(ge=0)] = 0
    easy_captions: Annotated[int, Field(ge=0)] = 0
    hard_captions: Annotated[int, Field(ge=0)] = 0
    hard_negatives: Path | None = None
    """for each training image others like it: JSON of finetune.shortlist (lists of ids by id), or a released pickle"""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.3
    scale: Annotated[float, Field(gt=0)] = 1.0
    """of the circle loss; the released configuration says 32, but its script leaves it at 1"""

    @model_validator(mode="after")
    def _check_negatives(self) -> RetrievalSettings:
        images, captions = self.easy_images + self.hard_images, self.easy_captions + self.hard_captions
        if images + captions < 2:
            raise ValueError("at least two negatives are needed: the loss takes them in two halves")
        if images and captions and images != captions:
            raise ValueError(
                f"{images} negatives have another image and {captions} another caption; take as many of each, since "
                "the loss takes them in two halves"
            )
        if (self.hard_images or self.hard_captions) and self.hard_negatives is None:
            raise ValueError("hard_images and hard_captions need the file hard_negatives")
        return self

    @property
    def negatives(self) -> list[Kind]:
        """The kind of each false pair; those with another image come first."""
        kinds: tuple[Kind, ...] = ("easy_images", "hard_images", "easy_captions", "hard_captions")
        return [kind for kind in kinds for _ in range(getattr(self, kind))]


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption of an image."""

    caption_id: str
    image_id: str
    text: str


class Retrieval(Task[RetrievalSettings, Caption]):
    """A score for each pair of a caption and an image."""

    name = "retrieval"
    settings_type = RetrievalSettings

    @property
    def metric(self) -> str:
        """The mean of the six recalls."""
        return "recall"

    # -------------------------------------------------------------------------------------------------------- files

    def read(self, data: Path, split: str) -> list[Caption]:
        """The captions of a split of Karpathy's ``dataset_*.json``, or of a released file of captions.

        An image is known by its COCO id if the file has one, else by its file name without the extension.
        """
        captions = _read_released(data / split) if is_released(split) else _read_karpathy(data, split)
        if len({caption.caption_id for caption in captions}) < len(captions):
            raise InputError(f"{data}: captions of {split} share an id; each needs its own")
        return captions

    def write(self, predictions: Sequence[Prediction], path: Path) -> None:
        """JSON: a list with, for each caption, the ranks in both directions and the best images."""
        write_json(predictions, path)

    def read_predictions(self, path: Path) -> list[Prediction]:
        """See `Task.read_predictions`."""
        try:
            return [{**item, "caption_id": str(item["caption_id"])} for item in read_json(path)]
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: is no list of ranks by caption_id, as finetune.predict writes it") from error

    def evaluate(self, predictions: Sequence[Prediction], examples: Sequence[Caption]) -> dict[str, float]:
        """Recall in both directions over the whole split and, if it is large, the mean over folds of 1,000 images."""
        given = {item["caption_id"]: item for item in predictions}
        wanted = {caption.caption_id for caption in examples}
        if len(given) != len(predictions) or given.keys() != wanted:
            missing, strange = sorted(wanted - given.keys()), sorted(given.keys() - wanted)
            raise InputError(
                f"ranks of {pluralize(len(predictions), 'caption')} do not fit the {len(examples)} of the split: "
                f"{len(missing)} missing {missing[:1]}, {len(strange)} unknown {strange[:1]}"
            )
        ranked = [given[caption.caption_id] for caption in examples]
        first = list({caption.image_id: number for number, caption in reversed(list(enumerate(examples)))}.values())
        scores = _recalls(ranked, first, "rank")
        if all("fold_rank" in item for item in ranked):
            scores |= {f"1k/{name}": value for name, value in _recalls(ranked, first, "fold_rank").items()}
        return scores

    # ----------------------------------------------------------------------------------------------------- training

    def make_head(self, config: ModelConfig) -> RetrievalHead:
        """See `Task.make_head`."""
        return RetrievalHead(config)

    def collate(self, split: Split[Caption], numbers: Array, random: Sequence[np.random.Generator] | None) -> Batch:
        """In training each caption with its image, followed by its false pairs; else each with its image."""
        sources = split.sources
        pairs: list[tuple[Caption, str]] = []
        for place, caption in enumerate(split.take(numbers)):
            pairs.append((caption, caption.image_id))
            if random is not None:
                pairs += self._pool(split).false_pairs(caption, self.settings.negatives, random[place])
        texts = [sources.texts.text(caption.text, self.settings.max_text) for caption, _ in pairs]
        images = {image_id: sources.image(image_id) for _, image_id in pairs}
        inputs = sources.pad(texts, [images[image_id] for _, image_id in pairs])
        return Batch(inputs, {"groups": torch.arange(len(numbers))})

    def _pool(self, split: Split[Caption]) -> _Pool:
        if self._pooled is None or self._pooled[0] is not split:
            self._pooled = split, _Pool(split.examples, self._hard_negatives)
        return self._pooled[1]

    _pooled: tuple[Split[Caption], _Pool] | None = None

    def fitted(self, examples: Sequence[Caption]) -> Self:
        """See `Task.fitted`."""
        _Pool(examples, self._hard_negatives)  # what it lacks is said now rather than in a worker
        return self

    @property
    def files(self) -> Sequence[Path]:
        """See `Task.files`."""
        return () if self.settings.hard_negatives is None else (self.settings.hard_negatives,)

    @cached_property
    def _hard_negatives(self) -> dict[str, list[str]]:
        path = self.settings.hard_negatives
        return {} if path is None else _read_hard_negatives(path)

    def count_targets(self, batch: Batch) -> int:
        """Groups of a true pair and its false ones."""
        return len(batch.labels["groups"])

    def score(self, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Circle loss of the groups; a target is met where the true pair has the highest score."""
        groups = len(batch.labels["groups"])
        if groups == 0:
            return scores.sum(), scores.new_zeros(())
        scores_BG = scores.view(groups, -1)
        loss = retrieval_loss(scores_BG, margin=self.settings.margin, scale=self.settings.scale) * groups
        return loss, (scores_BG[:, :1] > scores_BG[:, 1:]).all(1).sum()

    # --------------------------------------------------------------------------------------------------- predicting

    def predict(self, scores: Tensor, batch: Batch, examples: Sequence[Caption]) -> list[Prediction]:  # noqa: ARG002
        """The score of each caption with its own image; ranks need all pairs, see `infer`."""
        return [
            {"caption_id": caption.caption_id, "image_id": caption.image_id, "score": score}
            for caption, score in zip(examples, scores.tolist(), strict=True)
        ]

    def infer(self, model: nn.Module, split: Split[Caption], *, batch_size: int, world: World) -> list[Prediction]:
        """Scores every caption with every image of the split and ranks them."""
        return self.ranked(split, self.matrix(model, split, batch_size=batch_size, device=world.device).fill(world))

    def matrix(
        self,
        model: nn.Module,
        split: Split[Caption],
        *,
        batch_size: int,
        device: torch.device,
        precision: Precision = "fp32",
        candidates: Array | None = None,
    ) -> Matrix:
        """The matrix of a split, to be filled: captions and images in the order of the split.

        Args:
            model: a `FineTuned` in evaluation mode, on ``device``.
            split: whose captions and images are scored.
            batch_size: pairs that are scored at once.
            device: to compute on.
            precision: to compute in.
            candidates: bool [captions, images], the pairs to score; None for all.
        """
        scorer = PairScorer(model, split.sources, device=device, precision=precision, batch_size=batch_size)
        texts = [split.sources.texts.text(caption.text, self.settings.max_text) for caption in split.examples]
        images, _ = images_of(split.examples)

        def encode() -> States:
            return scorer.encode_images(split.sources.image(image_id) for image_id in images)

        return Matrix(scorer, texts, encode, len(images), candidates)

    def ranked(self, split: Split[Caption], scores_CI: Array) -> list[Prediction]:
        """What a matrix says of each caption.

        Args:
            split: the captions.
            scores_CI: float [captions, images].
        """
        images, own_C = images_of(split.examples)
        names = ([caption.caption_id for caption in split.examples], images) if self.settings.as_released else None
        ranks, folded = rank(scores_CI, own_C, names), rank_in_folds(scores_CI, own_C)
        best = np.argsort(-scores_CI, axis=1, kind="stable")[:, :BEST]
        predictions: list[Prediction] = []
        for number, caption in enumerate(split.examples):
            prediction: Prediction = {
                "caption_id": caption.caption_id,
                "image_id": caption.image_id,
                "rank": _pair(ranks.images[number], ranks.texts[own_C[number]]),
                "images": [images[image] for image in best[number] if scores_CI[number, image] > -np.inf],
            }
            if folded is not None:
                prediction["fold_rank"] = _pair(folded.images[number], folded.texts[own_C[number]])
            predictions.append(prediction)
        return predictions


def images_of(captions: Sequence[Caption]) -> tuple[list[str], Array]:
    """The ids of the images, in the order in which captions name them first, and int64 [C], each caption's image."""
    numbers: dict[str, int] = {}
    own = [numbers.setdefault(caption.image_id, len(numbers)) for caption in captions]
    return list(numbers), np.array(own, np.int64)


class _Pool:
    """What false pairs are made of."""

    def __init__(self, captions: Sequence[Caption], hard: dict[str, list[str]]) -> None:
        self._images, _ = images_of(captions)
        if len(self._images) < 2:
            raise InputError("false pairs need at least two images; the training split has one")
        self._captions: dict[str, list[Caption]] = {image: [] for image in self._images}
        for caption in captions:
            self._captions[caption.image_id].append(caption)
        self._hard = hard

    def false_pairs(
        self, caption: Caption, kinds: Sequence[Kind], random: np.random.Generator
    ) -> list[tuple[Caption, str]]:
        """One pair of a caption and an image id for each kind."""
        pairs = []
        for kind in kinds:
            other = self._other(caption.image_id, kind.startswith("hard"), random)
            if kind.endswith("images"):
                pairs.append((caption, other))
            else:
                own = self._captions[other]
                pairs.append((own[int(random.integers(len(own)))], caption.image_id))
        return pairs

    def _other(self, image_id: str, hard: bool, random: np.random.Generator) -> str:
        if hard:
            alike = [other for other in self._hard.get(image_id, ()) if other != image_id and other in self._captions]
            if not alike:
                raise InputError(f"image {image_id!r} has no hard negatives of the training split; make the file anew")
            return alike[int(random.integers(len(alike)))]
        while True:
            other = self._images[int(random.integers(len(self._images)))]
            if other != image_id:
                return other


def _pair(image_rank: float, text_rank: float) -> dict[str, int | None]:
    """The ranks in both directions: None where the right one was not scored, 0 outside of the folds."""
    return {
        name: 0 if np.isnan(value) else None if np.isinf(value) else int(value)
        for name, value in (("image", image_rank), ("text", text_rank))
    }


def _recalls(ranked: Sequence[Prediction], first: Sequence[int], key: str) -> dict[str, float]:
    """Recalls over captions, and over images, for which the first caption of each speaks."""
    try:
        image_ranks, text_ranks = (
            np.array([np.inf if (value := item[key][name]) is None else value for item in items], np.float64)
            for name, items in (("image", ranked), ("text", [ranked[number] for number in first]))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"a prediction has no {key} of image and text: {error!r}") from error
    return recalls(image_ranks[image_ranks > 0], text_ranks[text_ranks > 0])


def _read_karpathy(data: Path, split: str) -> list[Caption]:
    paths = sorted(data.glob("dataset_*.json"))
    if len(paths) != 1:
        raise InputError(f"{data}: holds {len(paths)} files dataset_*.json, one is needed (Karpathy's splits)")
    (path,) = paths
    captions, splits = list[Caption](), set[str]()
    try:
        for image in read_json(path)["images"]:
            splits.add(image["split"])
            if image["split"] != split:
                continue
            image_id = str(image["cocoid"]) if "cocoid" in image else Path(image["filename"]).stem
            captions += [Caption(str(s["sentid"]), image_id, s["raw"]) for s in image["sentences"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: is not of Karpathy's layout: {error!r}") from error
    if split not in splits:
        raise InputError(f"{path}: has no split {split!r}, only {', '.join(sorted(splits))}")
    return captions


def _read_released(path: Path) -> list[Caption]:
    """Lines of image id, caption id and caption, with tabs between them."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")  # captions may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    captions = []
    for number, line in enumerate(lines, 1):
        fields = line.split("\t")
        if len(fields) != 3:
            raise InputError(f"{path}: line {number}: has {len(fields)} fields, not image id, caption id and caption")
        captions.append(Caption(fields[1], fields[0], fields[2]))
    return captions


def _read_hard_negatives(path: Path) -> dict[str, list[str]]:
    """Ids of images by the id of the image that they are like."""
    try:
        if path.suffix == ".json":
            return {str(image): [str(other) for other in others] for image, others in read_json(path).items()}
        found = pickles.load(path.read_bytes())
        images = [str(image) for image in found["train_image_list"]]
        pools = zip(images, found["train_hard_pool"], strict=True)
        return {image: [images[number] for number in pool] for image, pool in pools}
    except (OSError, AttributeError, TypeError, KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"{path}: neither JSON with a list of image ids for each image id, nor a pickle with train_image_list and "
            f"train_hard_pool: {error!r}"
        ) from error
