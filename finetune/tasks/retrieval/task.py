"""Image and text retrieval (Flickr30k, COCO): which image belongs to a caption, and which caption to an image?"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, NotRequired, Self, TypedDict

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from finetune.heads import FineTunedModel, RetrievalHead, compute_retrieval_loss
from finetune.inputs import TaskBatch
from finetune.task import Split, Task, TaskSettings
from finetune.tasks.checks import expect_layout, match_predictions, read_example_id
from finetune.tasks.retrieval.captions import RetrievalCaption, number_images, read_captions
from finetune.tasks.retrieval.false_pairs import (
    KINDS,
    FalsePairKind,
    FalsePairs,
    check_hard_negatives,
    read_hard_negatives,
    read_negatives_of,
)
from finetune.tasks.retrieval.ranking import compute_recalls, rank, rank_in_folds
from finetune.tasks.retrieval.score_matrix import PairScorer, Precision, ScoreMatrix, States
from parsers.command import InputError
from pipeline.parse.rows import Columns
from shards.schema import Array
from shards.stage_folder import STAGE, parts_of
from shards.storage.files import read_json, write_json

if TYPE_CHECKING:
    from pretrain.training.distributed import DistributedContext

FalsePairCount = Annotated[int, Field(ge=0, le=10_000)]
BEST = 10
"""Number of images that are written for each caption."""


class RetrievalSettings(TaskSettings):
    """The settings of retrieval: the number of false pairs for each true pair, and the loss. Defaults are as released.

    A false pair has another image or another caption. An easy one is drawn from the whole training split, a hard one
    from the images that ``hard_negatives`` names for the image. The paper has 20 false pairs of these four kinds. A
    false caption is the true one with a word changed.
    """

    easy_images: FalsePairCount = 20
    hard_images: FalsePairCount = 0
    easy_captions: FalsePairCount = 0
    hard_captions: FalsePairCount = 0
    hard_negatives: Path | None = None
    """images like each training image: JSON of finetune.shortlist (lists of ids by id), or a released pickle"""
    false_captions: FalsePairCount = 0
    """a caption of which ``negatives`` has none gets an easy caption in its place"""
    negatives: Path | None = None
    """the folder that pipeline.negatives wrote of the graphs of these captions"""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """margin of the circle loss"""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """scale of the circle loss; the released configuration says 32, but its script leaves it at 1"""

    @model_validator(mode="after")
    def _check_negatives(self) -> RetrievalSettings:
        images, captions = self.easy_images + self.hard_images, self.easy_captions + self.hard_captions
        captions += self.false_captions
        if images + captions < 2:
            raise ValueError("at least two negatives are needed: the loss takes them in two halves")
        if images and captions and images != captions:
            raise ValueError(
                f"{images} negatives have another image and {captions} another caption; take as many of each, since "
                "the loss takes them in two halves"
            )
        if (self.hard_images or self.hard_captions) and self.hard_negatives is None:
            raise ValueError("hard_images and hard_captions need the file hard_negatives")
        if self.false_captions and self.negatives is None:
            raise ValueError("false_captions needs negatives, the folder that pipeline.negatives wrote")
        return self

    @property
    def false_pairs(self) -> list[FalsePairKind]:
        """The kind of each false pair. Those with another image come first."""
        return [kind for kind in KINDS for _ in range(getattr(self, kind))]


class RankPair(TypedDict):
    """Ranks in both directions, counted from 1: None if the right one was not scored, 0 outside of the folds."""

    image: int | None
    text: int | None


class RankPrediction(TypedDict):
    """The ranks of a caption and its image."""

    caption_id: str
    image_id: str
    rank: RankPair
    """``image``: rank of the caption's image; ``text``: rank of the best caption of this image"""
    images: list[str]
    """the best images, the best one first"""
    fold_rank: NotRequired[RankPair]
    """the ranks among the images of a fold, in a split of several folds"""


class Retrieval(Task[RetrievalSettings, RetrievalCaption, RankPrediction]):
    """Scores pairs of a caption and an image, and ranks them."""

    name = "retrieval"
    settings_type = RetrievalSettings
    head_type = RetrievalHead
    _false_pairs: FalsePairs | None = None
    """set by `fit`"""
    _columns: Columns = MappingProxyType({})
    """set by `with_columns`"""

    @property
    def metric(self) -> str:
        """The mean of the six recalls."""
        return "recall"

    # -------------------------------------------------------------------------------------------------------- files

    def with_columns(self, columns: Columns) -> Self:
        """See `Task.with_columns`."""
        task = copy(self)
        task._columns = columns
        return task

    def read(self, data: Path, split: str) -> list[RetrievalCaption]:
        """See `finetune.tasks.retrieval.captions.read_captions`."""
        return read_captions(data, split, self._columns)

    def write(self, predictions: Sequence[RankPrediction], path: Path) -> None:
        """Writes a JSON list with the fields of `RankPrediction`."""
        write_json(predictions, path)

    def read_predictions(self, path: Path) -> list[RankPrediction]:
        """See `Task.read_predictions`."""
        with expect_layout(path, "a list of ranks by caption_id, as finetune.predict writes it"):
            predictions: list[RankPrediction] = read_json(path)
            for prediction in predictions:
                prediction["caption_id"] = read_example_id(prediction["caption_id"])
                for name in ("rank", "fold_rank"):
                    if name in prediction:
                        _check_ranks(prediction[name], least=1 if name == "rank" else 0)
        return predictions

    def evaluate(self, predictions: Sequence[RankPrediction], examples: Sequence[RetrievalCaption]) -> dict[str, float]:
        """Returns the recalls in both directions over the whole split.

        For a split of several folds it also returns the recalls within folds of 1,000 images, as ``1k/...``.
        """
        wanted = [caption.caption_id for caption in examples]
        ranked = match_predictions(predictions, wanted, lambda item: item["caption_id"], "captions")
        first = list({caption.image_id: number for number, caption in reversed(list(enumerate(examples)))}.values())
        scores = _compute_recalls(ranked, first, "rank")
        if all("fold_rank" in item for item in ranked):
            scores |= {f"1k/{name}": value for name, value in _compute_recalls(ranked, first, "fold_rank").items()}
        return scores

    # ----------------------------------------------------------------------------------------------------- training

    def fit(self, examples: Sequence[RetrievalCaption]) -> Self:
        """Returns a task that draws false pairs from these captions. See `Task.fit`."""
        fitted = copy(self)
        path, folder = self._hard_negatives, self._negatives
        fitted._false_pairs = FalsePairs(
            examples,
            {} if path is None else read_hard_negatives(path),
            {} if folder is None else read_negatives_of(folder, examples),
        )
        return fitted

    @property
    def files(self) -> Sequence[Path]:
        """The file of hard negatives, and what says how the false captions were made, if there are to be any."""
        paths = (self._hard_negatives, None if self._negatives is None else self._negatives / STAGE)
        return tuple(path for path in paths if path is not None)

    @property
    def _hard_negatives(self) -> Path | None:
        wanted = self.settings.hard_images or self.settings.hard_captions
        return self.settings.hard_negatives if wanted else None

    @property
    def _negatives(self) -> Path | None:
        return self.settings.negatives if self.settings.false_captions else None

    def check_files(self) -> None:
        """See `Task.check_files`."""
        if self._hard_negatives is not None:
            check_hard_negatives(self._hard_negatives)
        if self._negatives is not None:
            parts_of(self._negatives)

    def collate(
        self, split: Split[RetrievalCaption], numbers: Array, random: Sequence[np.random.Generator] | None
    ) -> TaskBatch:
        """Pads captions with their images to a batch. In training each pair is followed by its false pairs.

        Its ``groups``, int64 [B], number the true pairs.
        """
        sources = split.sources
        pairs: list[tuple[RetrievalCaption, str]] = []
        for place, caption in enumerate(split.take(numbers)):
            pairs.append((caption, caption.image_id))
            if random is not None:
                assert self._false_pairs is not None, "fit() comes first"
                pairs += self._false_pairs.draw(caption, self.settings.false_pairs, random[place])
        texts = [sources.texts.encode(caption.text, self.settings.max_text) for caption, _ in pairs]
        images = {image_id: sources.read_image(image_id) for _, image_id in pairs}
        inputs = sources.pad(texts, [images[image_id] for _, image_id in pairs])
        return TaskBatch(inputs, {"groups": torch.arange(len(numbers))})

    def count_targets(self, batch: TaskBatch) -> int:
        """Returns the number of true pairs."""
        return len(batch.labels["groups"])

    def compute_loss(self, logits: Tensor, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """See `Task.compute_loss`. A target is met if the true pair has a higher score than all its false pairs."""
        groups = len(batch.labels["groups"])
        if groups == 0:
            return logits.sum(), logits.new_zeros(())
        scores_BG = logits.view(groups, -1)
        loss = compute_retrieval_loss(scores_BG, margin=self.settings.margin, scale=self.settings.scale) * groups
        return loss, (scores_BG[:, :1] > scores_BG[:, 1:]).all(1).sum()

    # --------------------------------------------------------------------------------------------------- predicting

    def predict(self, logits: Tensor, batch: TaskBatch, examples: Sequence[RetrievalCaption]) -> NoReturn:
        """A rank needs the scores of all pairs: `infer` predicts a whole split, batches are not predicted."""
        raise NotImplementedError("retrieval predicts whole splits")

    def infer(
        self, model: FineTunedModel, split: Split[RetrievalCaption], *, batch_size: int, world: DistributedContext
    ) -> list[RankPrediction]:
        """Scores every caption of the split with every image and ranks them. See `Task.infer`."""
        matrix = self.make_matrix(model, split, batch_size=batch_size, device=world.device)
        return self.rank_captions(split, matrix.fill(world))

    def make_matrix(
        self,
        model: FineTunedModel,
        split: Split[RetrievalCaption],
        *,
        batch_size: int,
        device: torch.device,
        precision: Precision = "fp32",
        candidates: Array | None = None,
    ) -> ScoreMatrix:
        """Returns the matrix of a split, to be filled. Captions and images are in the order of the split.

        Args:
            model: a model in evaluation mode, on ``device``.
            split: the captions and images to score.
            batch_size: pairs that are scored at once.
            device: where to compute.
            precision: the precision to compute in.
            candidates: bool [captions, images], the pairs to score; None for all pairs.
        """
        scorer = PairScorer(model, split.sources, device=device, precision=precision, batch_size=batch_size)
        texts = [split.sources.texts.encode(caption.text, self.settings.max_text) for caption in split.examples]
        images, _ = number_images(split.examples)

        def encode_images() -> States:
            return scorer.encode_images(split.sources.read_image(image_id) for image_id in images)

        return ScoreMatrix(scorer, texts, encode_images, len(images), candidates)

    def rank_captions(self, split: Split[RetrievalCaption], scores_CI: Array) -> list[RankPrediction]:
        """Returns the prediction for each caption.

        Args:
            split: the captions.
            scores_CI: float [captions, images]; -inf for a pair that was not scored.
        """
        images, own_C = number_images(split.examples)
        names = ([caption.caption_id for caption in split.examples], images) if self.settings.as_released else None
        ranks, folded = rank(scores_CI, own_C, names), rank_in_folds(scores_CI, own_C)
        best = np.argsort(-scores_CI, axis=1, kind="stable")[:, :BEST]
        predictions: list[RankPrediction] = []
        for number, caption in enumerate(split.examples):
            prediction: RankPrediction = {
                "caption_id": caption.caption_id,
                "image_id": caption.image_id,
                "rank": _pair_ranks(ranks.images[number], ranks.texts[own_C[number]]),
                "images": [images[image] for image in best[number] if scores_CI[number, image] > -np.inf],
            }
            if folded is not None:
                prediction["fold_rank"] = _pair_ranks(folded.images[number], folded.texts[own_C[number]])
            predictions.append(prediction)
        return predictions


def _pair_ranks(image_rank: float, text_rank: float) -> RankPair:
    """Makes the ranks JSON values: inf is None, and NaN is 0."""
    image, text = (
        0 if np.isnan(value) else None if np.isinf(value) else int(value) for value in (image_rank, text_rank)
    )
    return {"image": image, "text": text}


def _check_ranks(pair: RankPair, least: int) -> None:
    """Raises ValueError if a value is no rank: recalls leave out what is below 1."""
    for rank_ in (pair["image"], pair["text"]):
        if rank_ is not None and (type(rank_) is not int or rank_ < least):
            raise ValueError(f"{rank_!r} is no rank")


def _make_array(ranks: Sequence[int | None]) -> Array:
    return np.array([np.inf if value is None else value for value in ranks], np.float64)


def _compute_recalls(
    ranked: Sequence[RankPrediction], first: Sequence[int], key: Literal["rank", "fold_rank"]
) -> dict[str, float]:
    """Returns recalls over captions and over images. An image's rank is taken from the first of its captions."""
    try:
        image_ranks = _make_array([item[key]["image"] for item in ranked])
        text_ranks = _make_array([ranked[number][key]["text"] for number in first])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"a prediction has no {key} of image and text: {error!r}") from error
    return compute_recalls(image_ranks[image_ranks > 0], text_ranks[text_ranks > 0])
