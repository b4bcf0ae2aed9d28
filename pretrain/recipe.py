"""The recipe of a pretraining run: a YAML file that is checked before anything starts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from parsers.command import InputError
from pretrain.model.config import ModelConfig, RegionTarget
from pretrain.training.settings import OptimizerSection, Positive, Probability, Section, TrainingRecipe
from shards.manifest import ClassKind
from shards.sample_reader import SampleReader
from shards.schema import NEGATIVE_KINDS, NegativeKind

OBJECTIVES = ("object", "attribute", "relation", "word", "region", "match", "token_match")
"""Names of the losses, which are learned together."""
MASKED_FOR = OBJECTIVES[:5]
"""The objectives that something is hidden for; `Masking` has a share of the same name for each."""
Weight = Annotated[float, Field(ge=0)]
Passes = Annotated[float, Field(ge=0.01, le=100)]
ShownImage = Literal["own", "other", "none"]
"""Which image a caption is shown with: its own, that of another pair of the batch, or none (text only)."""


REGION_TARGETS: dict[ClassKind, tuple[RegionTarget, ...]] = {
    "distribution": ("distribution", "argmax", "features"),
    "top-k": ("distribution", "argmax", "features"),
    "argmax": ("argmax", "features"),
    "none": ("features",),
}
"""The region targets that each kind of class information allows."""


class Masking(Section):
    """How much is hidden. The defaults are those of the paper (section 3.3)."""

    object: Probability = 0.3
    """share of the objects of a caption's scene graph"""
    mentions: Literal["all", "one"] = "all"
    """which mentions of a taken object are hidden: `all` that are shown, or `one` of them at random"""
    attribute: Probability = 0.3
    relation: Probability = 0.3
    word: Probability = 0.15
    """share of the word pieces that belong to no node of a kind that is taken. If no kind is, all pieces count, as in
    BERT"""
    region: Probability = 0.15
    mismatch: Probability = 0.5
    """share of pairs whose caption does not belong to the image; nothing is masked in them"""
    whole: Probability = 0.0
    """share of the other pairs that are shown without masks. If it is not 0, `match` and `token_match` ask only about
    pairs without masks. With 0 they ask about all pairs, as in the paper, and a mask gives away that a pair matches"""
    spans: Literal["nodes", "random"] = "nodes"
    """`nodes` hides nodes. `random` hides as many spans of the same lengths, but on any words: a control experiment"""
    overlap: Annotated[float, Field(gt=0, lt=1)] | None = None
    """also hide each region whose intersection over union with a hidden one is higher than this; ViLBERT has 0.4"""

    @property
    def nodes(self) -> tuple[float, float, float]:
        """The share of each kind of node."""
        return self.object, self.attribute, self.relation


class FalseCaptions(Section):
    """Captions of mismatched pairs that are false at a word or two, from shards that were packed with them."""

    share: Probability = 0.0
    """share of the mismatched pairs that get a false caption of their own image, where the image has one of the kinds;
    the others get a caption of another image"""
    kinds: Annotated[tuple[NegativeKind, ...], Field(min_length=1)] = NEGATIVE_KINDS
    """a kind is drawn among those that an image has, then one of its false captions of that kind"""


class ObjectiveWeights(Section):
    """The weight of each objective in the loss. 0 switches an objective off, and nothing is hidden for it."""

    object: Weight = 1.0
    attribute: Weight = 1.0
    relation: Weight = 1.0
    word: Weight = 1.0
    region: Weight = 1.0
    match: Weight = 1.0
    """does the caption belong to the image? With 0, and 0 for `token_match`, every pair matches"""
    token_match: Weight = 0.0
    """which word is false? It is asked at each word of a node, in captions that are true as a whole or false at a word;
    needs `negatives`"""


class PretrainOptimizer(OptimizerSection):
    """AdamW, and how its learning rate goes."""

    schedule: Literal["linear", "noam", "constant"] = "linear"
    """what follows the warm-up: `linear` falls to 0 at the last step, `noam` as the inverse square root of the step"""
    betas: tuple[float, float] = (0.9, 0.999)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "linear":
            return self.learning_rate * (steps - step) / max(1, steps - self.warmup_steps)
        if self.schedule == "noam":
            return self.learning_rate * math.sqrt(max(1, self.warmup_steps) / (step + 1))
        return self.learning_rate


class PretrainRecipe(TrainingRecipe):
    """The recipe of a pretraining run. Its keys are the attributes, with those of `TrainingRecipe`."""

    model: Path
    """JSON file with the model's sizes; those of vocabulary, features and classes are taken from the shards"""
    batch_size: Positive | None = None
    """pairs in a global batch, over all ranks and accumulation steps"""
    tokens: Positive | None = None
    """tokens in a global batch, instead of ``batch_size``: text positions and image rows that are no padding. This is
    an average over the shards; a batch of long pairs has fewer pairs"""
    passes: tuple[Passes, ...] = ()
    """passes over each set of shards in an epoch, in the order of ``--shards``; by default one over each. With 0.5, an
    epoch sees one half of the set, and the next epoch the other half. Numbers are rounded to fractions of at most
    100ths"""
    max_text: Annotated[int, Field(ge=3)] = 64
    """positions of a text, [CLS] and [SEP]s included; longer texts are cut (see `pretrain.data.masking.lay_out`)"""
    block_shards: Positive = 8
    """number of shards that are shuffled together"""
    images: ShownImage = "own"
    """which image a caption is shown with; `none` trains on the text alone"""
    masking: Masking = Masking()
    negatives: FalseCaptions = FalseCaptions()
    weights: ObjectiveWeights = ObjectiveWeights()
    region_target: RegionTarget = "distribution"
    """what is predicted of a masked region; the shards must have it"""
    optimizer: PretrainOptimizer = PretrainOptimizer()
    evaluate_steps: Positive = 50
    """most batches of an evaluation"""

    @model_validator(mode="after")
    def _has_one_size(self) -> Self:
        if (self.batch_size is None) == (self.tokens is None):
            raise ValueError("give one of batch_size (pairs) and tokens (text positions and image rows)")
        return self

    @model_validator(mode="after")
    def _asks_fairly(self) -> Self:
        if self.negatives.share and not self.masking.whole:
            raise ValueError(
                "negatives.share needs masking.whole above 0: where all matching pairs are masked and no others, "
                "a mask gives the answer away"
            )
        if self.weights.token_match and not self.negatives.share:
            raise ValueError("weights.token_match needs negatives.share above 0: only false captions have false words")
        return self

    @property
    def active_weights(self) -> ObjectiveWeights:
        """The weights, with 0 for regions and matches where captions are not shown with their own images."""
        if self.images == "own":
            return self.weights
        return self.weights.model_copy(update={"region": 0.0, "match": 0.0, "token_match": 0.0})

    @property
    def active_masking(self) -> Masking:
        """The masking, with 0 for objectives without a weight."""
        weights = self.active_weights
        off = [name for name in MASKED_FOR if getattr(weights, name) == 0]
        if weights.match == weights.token_match == 0:
            off += ["mismatch", "whole"]
        return self.masking.model_copy(update=dict.fromkeys(off, 0.0))


def check_region_target(recipe: PretrainRecipe, shards: SampleReader) -> None:
    """Raises InputError if the shards lack what the recipe predicts of masked regions."""
    kind = shards.classes.kind
    possible = REGION_TARGETS[kind]
    if recipe.active_masking.region > 0 and recipe.region_target not in possible:
        raise InputError(
            f"{shards.location}: region_target {recipe.region_target} cannot be had from class information of the kind "
            f"{kind}; set region_target to {' or '.join(possible)}, or weights.region to 0"
        )


def check_negatives(recipe: PretrainRecipe, shards: SampleReader) -> None:
    """Raises InputError if the shards lack the false captions that the recipe asks for."""
    if recipe.negatives.share and not shards.totals.negatives:
        raise InputError(
            f"{shards.location}: has no false captions for negatives.share; make some with `python -m "
            "pipeline.negatives` and pack the shards again with --negatives, or set negatives.share to 0"
        )


def model_config(recipe: PretrainRecipe, shards: SampleReader) -> ModelConfig:
    """Returns the recipe's model configuration, with the sizes of vocabulary, features and classes of the shards.

    Raises:
        InputError: the recipe does not fit the shards or its model size.
    """
    check_region_target(recipe, shards)
    update: dict[str, object] = {
        "vocab_size": shards.tokenizer.size,
        "v_feature_size": shards.feature_size,
        "region_target": recipe.region_target,
        "max_text": recipe.max_text,
        "token_match": True if recipe.weights.token_match else None,
    }
    if shards.classes.count is not None:
        update["class_size"] = shards.classes.count
    config = ModelConfig.load(recipe.model).model_copy(update=update)
    if recipe.max_text > config.max_position_embeddings:
        raise InputError(
            f"max_text {recipe.max_text} is more than the {config.max_position_embeddings} positions of {recipe.model}"
        )
    return config
