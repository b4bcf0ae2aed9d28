"""Ranks and recalls of retrieval in both directions, computed from one matrix of scores.

Shape suffixes: C captions, I images. A pair that was not scored has the score -inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parsers.command import InputError
from shards.schema import Array

RECALLS = (1, 5, 10)
FOLD = 1000
"""Images of a fold. Larger splits are also scored in folds, as is usual for COCO's 5,000 test images."""
_ROWS = 256
"""Number of captions or images that are ranked at once."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Ranks, counted from 1, or inf if the right one was not scored."""

    images: Array
    """float64 [C]: the rank of each caption's image among all images"""
    texts: Array
    """float64 [I]: the rank of the best of an image's captions among all captions; inf for an image without captions"""


def rank(scores_CI: Array, own_C: Array, names: tuple[Sequence[str], Sequence[str]] | None = None) -> Ranks:
    """Ranks each caption's image among all images, and each image's captions among all captions.

    A wrong pair with the same score as the right one is ranked before it, so a model that gives every pair the same
    score finds nothing.

    Args:
        scores_CI: float [C, I].
        own_C: int64 [C], the image of each caption.
        names: the names of the captions and of the images. With them, ties are broken as in the released script: the
            larger name comes first.

    Raises:
        InputError: a score is NaN.
    """
    if np.isnan(scores_CI).any():
        raise InputError("scores are not numbers: the model diverged, or a score block is damaged")
    captions, images = scores_CI.shape
    order_C, order_I = (None, None) if names is None else map(_sort_order, names)
    image_ranks, text_ranks = np.full(captions, np.inf), np.full(images, np.inf)
    for start in range(0, captions, _ROWS):
        rows = slice(start, start + _ROWS)
        right = np.arange(images) == own_C[rows, None]
        image_ranks[rows] = _rank_rows(scores_CI[rows], right, order_I)
    for start in range(0, images, _ROWS):
        columns = slice(start, min(start + _ROWS, images))
        right = own_C == np.arange(columns.start, columns.stop)[:, None]
        text_ranks[columns] = _rank_rows(scores_CI[:, columns].T, right, order_C)
    return Ranks(image_ranks, text_ranks)


def _sort_order(names: Sequence[str]) -> Array:
    """Returns int64 [n], the place of each name in sorted order."""
    return np.unique(np.array(names, str), return_inverse=True)[1]


def _rank_rows(scores: Array, right: Array, order: Array | None) -> Array:
    """Returns float [n]: the rank of the best right column in each row.

    Args:
        scores: float [n, m].
        right: bool [n, m].
        order: int64 [m]: among equal scores the column with the larger value is first; None: the wrong ones are.
    """
    best = np.where(right, scores, -np.inf).max(1, initial=-np.inf)[:, None]
    tied = ~right & (scores == best)
    if order is not None:
        last = np.where(right & (scores == best), order, -1).max(1, initial=-1)[:, None]
        tied &= order > last
    ahead = (~right & (scores > best)) | tied
    return np.where(best[:, 0] == -np.inf, np.inf, 1.0 + ahead.sum(1))


def rank_in_folds(scores_CI: Array, own_C: Array) -> Ranks | None:
    """Ranks as `rank` does, but within folds: the images of a fold and their captions.

    Folds are `FOLD` images each, in the order of the split. The ranks of images after the last whole fold, and of their
    captions, are NaN.

    Returns:
        The ranks, or None for a split of less than two folds.
    """
    captions, images = scores_CI.shape
    if images < 2 * FOLD:
        return None
    image_ranks, text_ranks = np.full(captions, np.nan), np.full(images, np.nan)
    for start in range(0, images - FOLD + 1, FOLD):
        rows = np.flatnonzero((own_C >= start) & (own_C < start + FOLD))
        columns = slice(start, start + FOLD)
        found = rank(scores_CI[rows, columns], own_C[rows] - start)
        image_ranks[rows], text_ranks[columns] = found.images, found.texts
    return Ranks(image_ranks, text_ranks)


def compute_recalls(image_ranks: Array, text_ranks: Array) -> dict[str, float]:
    """Returns the recalls at 1, 5 and 10 in both directions, and their mean as ``recall``.

    ``image/R@5`` is the share of captions whose image is among the first five images. ``text/R@5`` is the share of
    images that have one of their captions among the first five captions.
    """
    found = {
        f"{direction}/R@{k}": float((ranks <= k).mean())
        for direction, ranks in (("image", image_ranks), ("text", text_ranks))
        for k in RECALLS
    }
    return {"recall": sum(found.values()) / len(found), **found}
