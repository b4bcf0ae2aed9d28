"""How much a retrieval model relies on each kind of word: those of objects, of attributes or of relations are hidden.

This is a cloze test for models that no longer predict words. The model does not name what is hidden. It looks for the
caption's image among others, once with all words and once without those of a kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.inputs import Sources, TokenizedText
from finetune.tasks.retrieval.score_matrix import PairScorer
from shards.random_numbers import EVALUATION_SEED, generator
from shards.reader import ShardSet
from shards.schema import KINDS, Array, Masks

CHOICES = 10
"""The caption's image is among so many."""
MOST = 200
"""So many captions are asked about, at most, for each kind."""


@dataclass(frozen=True, slots=True)
class HiddenWords:
    """What hiding a kind of word does."""

    captions: int
    """captions with such words that were asked about"""
    shown: float
    """the share of them whose image has the highest score while all words are shown"""
    hidden: float
    """the same while the words of this kind are hidden"""


@dataclass(frozen=True, slots=True)
class _Question:
    image: int
    """the number of the caption's image"""
    shown: TokenizedText
    hidden: TokenizedText


def measure_hidden_words(
    scorer: PairScorer, sources: Sources, shards: ShardSet, max_text: int
) -> dict[str, HiddenWords]:
    """Hides the words of each kind of node, and returns what that does by kind. A kind without words is left out.

    Args:
        scorer: the model.
        sources: the regions of the images.
        shards: captions that the model has not seen. They are packed with the model's vocabulary.
        max_text: most positions of a text.
    """
    places = list(shards)
    image_ids = [shards.record(*place)[0] for place in places]
    choices = min(CHOICES, len(places))
    found = {}
    for kind, name in enumerate(KINDS):
        random = generator(EVALUATION_SEED, kind)
        questions = list(_list_questions(shards, places, kind, sources, max_text))
        if not questions:
            continue
        questions = [questions[number] for number in sorted(random.permutation(len(questions))[:MOST])]
        options_QO = np.array([_draw_options(question.image, len(places), choices, random) for question in questions])
        images, columns = np.unique(options_QO, return_inverse=True)
        states = scorer.encode_images(sources.read_image(image_ids[number]) for number in images)
        pairs_P2 = np.stack([np.repeat(np.arange(len(questions)), choices), columns.reshape(-1)], 1)
        shares = []
        for texts in ([question.shown for question in questions], [question.hidden for question in questions]):
            scores_QO = scorer.score(scorer.encode_texts(texts), states, pairs_P2).reshape(-1, choices)
            shares.append(float((scores_QO[:, :1] > scores_QO[:, 1:]).all(1).mean()))
        found[name] = HiddenWords(len(questions), *shares)
    return found


def _list_questions(
    shards: ShardSet, places: Sequence[tuple[int, int]], kind: int, sources: Sources, max_text: int
) -> Iterator[_Question]:
    mask = shards.vocabulary.index("[MASK]")
    for image, place in enumerate(places):
        masks = shards.masks(*place)
        for caption in range(len(masks.token_offsets) - 1):
            ids = masks.token_ids[slice(*masks.token_offsets[caption : caption + 2])].astype(np.int64)
            tokens = _list_tokens(masks, caption, kind)
            if len(tokens) and tokens.min() < max_text - 2:
                without = ids.copy()
                without[tokens] = mask
                shown, hidden = (sources.texts.encode_ids(text.tolist(), max_text) for text in (ids, without))
                yield _Question(image, shown, hidden)


def _list_tokens(masks: Masks, caption: int, kind: int) -> Array:
    """Returns int32: the positions of the pieces of a caption's nodes of one kind."""
    nodes = [masks.tokens(node) for node in masks.nodes(caption) if masks.node_kind[node] == kind]
    return np.unique(np.concatenate([np.zeros(0, np.int32), *nodes]))


def _draw_options(image: int, images: int, count: int, random: np.random.Generator) -> Array:
    """Returns int64 [count]: the number of an image, then those of others."""
    others = random.choice(images - 1, count - 1, replace=False)
    return np.array([image, *(others + (others >= image))])
