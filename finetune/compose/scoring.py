"""Scores the captions of pairs: with their own image, and in ways that do not see it.

Shape suffixes: N pairs, P texts with a hidden word piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from finetune.compose.suites import Box, CaptionPair, read_suite
from finetune.heads import FineTunedModel, RetrievalHead
from finetune.inputs import ImageRows, RegionSource, Sources, TextEncoder, TokenizedText, move_inputs
from finetune.model_folder import LAST, TASK
from finetune.retriever import ErnieVilForRetrieval
from finetune.tasks.retrieval.score_matrix import PairScorer
from parsers.command import InputError, pluralize, progress
from pretrain.cloze import NONE, OTHER, OWN
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG, WEIGHTS
from pretrain.model.folder import load_model
from pretrain.model.heads import ErnieViLForPreTraining
from pretrain.probes import choose_other_images
from shards.boxes import WHOLE_IMAGE
from shards.pictures import ImageIds, image_id_of_file
from shards.regions.table import RegionsRow
from shards.schema import Array
from shards.storage.weights import read_weights
from shards.vocabulary import VOCABULARY, make_tokenizer, read_vocabulary

WORDS = "words alone"
"""The likelihood of the words, as the model's own masked-word head sees it without an image."""
BLIND = (OTHER, NONE, WORDS)
"""The ways of scoring that do not see the pair's image."""
LONGEST = 64
"""Positions of a text for a model that does not say how long the texts of its training were."""
HEADS = "heads."
"""What the names of the weights of pretraining heads begin with."""
_RULES: tuple[ImageIds, ...] = ("auto", "stem")
_AT_ONCE = 512
"""Pairs whose states are in memory together."""
_KEPT = 0.5
"""A region is in a part of an image if at least this share of its area is."""

PairScores = Mapping[str, Array]
"""By way of scoring, float32 [N, 2]: the scores of the caption and of the negative caption."""

View = tuple[str, Box | None]
"""An image id, and the part of the image that is shown."""


@dataclass(frozen=True)
class Judge:
    """A model that says how well a text fits an image."""

    matcher: FineTunedModel
    """with a `RetrievalHead`, in evaluation mode"""
    texts: TextEncoder
    max_text: int
    """most positions of a text; the end of a longer one is cut off"""
    pretrained: ErnieViLForPreTraining | None = None
    """the same encoder with its head for masked words; fine-tuning keeps no such head"""

    @property
    def feature_size(self) -> int:
        """The size of the region features that it takes."""
        return self.matcher.ernie_vil.config.v_feature_size

    def encode(self, text: str) -> TokenizedText:
        """Returns a text as the model takes it."""
        return self.texts.encode(text, self.max_text)


def load_judge(path: Path, device: torch.device) -> Judge:
    """Loads a model of pretraining, or one that was fine-tuned on retrieval or imported with its head.

    Raises:
        InputError: ``path`` is neither, or it is damaged.
    """
    candidates = (path, path / LAST)
    folder = next((f for f in candidates if (f / CONFIG).is_file() and not (f / TASK).is_file()), None)
    if folder is None or not any(name.startswith(HEADS) for name in read_weights(folder / WEIGHTS)):
        retriever = ErnieVilForRetrieval.from_pretrained(path, device=device)
        return Judge(retriever.model, retriever.texts, retriever.max_text)
    config = ModelConfig.load(folder / CONFIG)
    pieces = read_vocabulary(folder / VOCABULARY)
    config.check_vocabulary(folder / VOCABULARY, len(pieces))
    pretrained = load_model(folder)
    head = RetrievalHead(config)
    head.match = pretrained.heads.match
    matcher = FineTunedModel(config, head)
    matcher.ernie_vil = pretrained.ernie_vil
    max_text = min(config.max_text or LONGEST, config.max_position_embeddings)
    return Judge(matcher.to(device).eval(), TextEncoder(make_tokenizer(pieces)), max_text, pretrained.to(device).eval())


# -------------------------------------------------------------------------------------------------------------- images


@dataclass(frozen=True, slots=True)
class OpenSuite:
    """The pairs of a suite whose images have regions."""

    pairs: tuple[CaptionPair, ...]
    image_ids: tuple[str, ...]
    """of each pair, what the regions of its image are found by"""
    left_out: int
    """pairs that the authors of the suite do not score, either"""
    without_regions: int
    """pairs whose images have no regions"""


def open_suite(path: Path, regions: RegionSource, *, skip_missing_images: bool) -> OpenSuite:
    """Reads a suite and finds the regions of its images.

    An image is known by the name that the suite gives it, or by what `image_id_of_file` makes of that name.

    Raises:
        InputError: the suite cannot be read; an image has no regions and is not to be skipped, or none has any.
    """
    suite = read_suite(path)
    known: dict[str, str | None] = {}
    for name in dict.fromkeys(pair.image for pair in suite.pairs):
        candidates = (name, *(image_id_of_file(name, rule) for rule in _RULES))
        known[name] = next((image_id for image_id in candidates if image_id in regions), None)
    kept = [(pair, image_id) for pair in suite.pairs if (image_id := known[pair.image]) is not None]
    missing = len(suite.pairs) - len(kept)
    if missing and (not kept or not skip_missing_images):
        example = next(name for name, image_id in known.items() if image_id is None)
        raise InputError(
            f"{path}: no regions for the images of {missing:,} of {pluralize(len(suite.pairs), 'pair')}, e.g. "
            f"{example}; add their --regions"
            + (", or leave these pairs out with --skip-missing-images" if kept else "")
        )
    return OpenSuite(tuple(pair for pair, _ in kept), tuple(image_id for _, image_id in kept), suite.left_out, missing)


def crop_regions(row: RegionsRow, crop: Box) -> RegionsRow:
    """Returns the regions of a part of an image: those that lie in it by half or more, cut off at its edges.

    The features stay what they are. A part that holds no region has none.
    """
    size = np.array([row.width, row.height] * 2, np.float32)
    x1, y1, x2, y2 = np.clip(np.array(crop, np.float32), 0, size)
    inside = np.clip(row.regions.boxes, [x1, y1, x1, y1], [x2, y2, x2, y2])
    areas, shown = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (row.regions.boxes, inside))
    kept = (shown >= _KEPT * areas) & (shown > 0)
    boxes = (inside - np.array([x1, y1, x1, y1], np.float32))[kept].astype(np.float32)
    regions = replace(row.regions, boxes=boxes, features=row.regions.features[kept], class_ids=None, class_probs=None)
    return RegionsRow(row.image_id, max(1, round(float(x2 - x1))), max(1, round(float(y2 - y1))), regions)


# -------------------------------------------------------------------------------------------------------------- scores


def score_pairs(
    judge: Judge, suite: OpenSuite, regions: RegionSource, *, batch_size: int, device: torch.device
) -> PairScores:
    """Scores both captions of each pair in every way that the model and the images allow.

    With the own image, another image and no image, a score is the log-odds that text and image belong together. No
    image is one row of zeros, as in training without images. `OTHER` is left out if all pairs have the same image, and
    `WORDS` if the model has no head for masked words.

    Args:
        judge: on ``device``.
        suite: N pairs.
        regions: those that the suite was opened with.
        batch_size: texts that are computed at once.
        device: where to compute.

    Raises:
        InputError: the regions of an image are damaged.
    """
    sources = Sources(judge.texts, regions, device_type=device.type)
    scorer = PairScorer(judge.matcher, sources, device=device, batch_size=batch_size)
    pairs = suite.pairs
    views = [(image_id, pair.crop) for image_id, pair in zip(suite.image_ids, pairs, strict=True)]
    shown: dict[str, Sequence[View | None]] = {OWN: views, NONE: [None] * len(views)}
    distinct = list(dict.fromkeys(views))
    if len(distinct) > 1:
        others = dict(zip(distinct, choose_other_images(len(distinct)).tolist(), strict=True))
        shown[OTHER] = [distinct[others[view]] for view in views]
    scores = {way: np.empty((len(pairs), 2), np.float32) for way in shown}
    with progress("score", len(pairs), "pair") as advance:
        for start in range(0, len(pairs), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            texts = scorer.encode_texts([judge.encode(text) for pair in pairs[part] for text in pair.captions])
            numbers = np.arange(len(texts.lengths))
            for way, of_pairs in shown.items():
                images = scorer.encode_images(_read_view(view, regions) for view in of_pairs[part])
                found = scorer.score(texts, images, np.stack([numbers, numbers // 2], axis=1))
                scores[way][part] = found.reshape(-1, 2)
            advance(len(pairs[part]))
    if judge.pretrained is not None:
        texts_of_pairs = [text for pair in pairs for text in pair.captions]
        scores[WORDS] = score_words(judge, judge.pretrained, texts_of_pairs, sources, batch_size, device).reshape(-1, 2)
    return scores


def _read_view(view: View | None, regions: RegionSource) -> ImageRows:
    if view is None:
        return ImageRows(np.zeros((1, regions.feature_size), np.float32), WHOLE_IMAGE)
    image_id, crop = view
    row = regions[image_id]
    return ImageRows.from_regions(row if crop is None else crop_regions(row, crop))


@torch.no_grad()
def score_words(
    judge: Judge,
    pretrained: ErnieViLForPreTraining,
    texts: Sequence[str],
    sources: Sources,
    batch_size: int,
    device: torch.device,
) -> Array:
    """Returns the pseudo-log-likelihood of each text, float32 [texts], without an image.

    Each word piece is hidden alone, and the log-probabilities of the pieces in their places are added
    (arXiv 1910.14659).
    """
    mask = judge.texts.mask
    encoded = {text: judge.encode(text) for text in texts}
    hidden = [
        (text, place)
        for text, found in sorted(encoded.items(), key=lambda item: len(item[1].token_ids))
        for place in range(1, len(found.token_ids) - 1)
    ]
    likelihoods = dict.fromkeys(encoded, 0.0)
    blank = _read_view(None, sources.images)
    with progress("words alone", len(hidden), "hidden piece") as advance:
        for start in range(0, len(hidden), batch_size):
            part = hidden[start : start + batch_size]
            masked = [_hide(encoded[text], place, mask) for text, place in part]
            inputs = move_inputs(sources.pad(masked, [blank] * len(part)), device)
            token_ids = inputs["token_ids"]
            assert token_ids is not None
            places_P = torch.tensor([place for _, place in part], device=device)
            targets_P = torch.arange(len(part), device=device) * token_ids.shape[1] + places_P
            output = pretrained(text_targets=targets_P, region_targets=targets_P[:0], **inputs)
            labels_P = torch.tensor([int(encoded[text].token_ids[place]) for text, place in part], device=device)
            chosen = output.vocabulary_logits.float().log_softmax(1).gather(1, labels_P[:, None])[:, 0].tolist()
            for (text, _), log_probability in zip(part, chosen, strict=True):
                likelihoods[text] += log_probability
            advance(len(part))
    return np.array([likelihoods[text] for text in texts], np.float32)


def _hide(text: TokenizedText, place: int, mask: int) -> TokenizedText:
    token_ids = text.token_ids.copy()
    token_ids[place] = mask
    return TokenizedText(token_ids, text.segment_ids)
