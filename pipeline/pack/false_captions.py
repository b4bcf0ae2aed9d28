"""The false captions of an image, with their word pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from parsers.graph import SceneGraph, Span
from pipeline.pack.word_pieces import cover_spans, make_masks
from shards.schema import NEGATIVE_DTYPES, NEGATIVE_KINDS, Caption, Negative, NegativeMasks


def make_negatives(captions: Sequence[Caption], rows: Sequence[Mapping[str, Any]]) -> tuple[Negative, ...]:
    """Makes the false captions of an image.

    Args:
        captions: the captions of the image.
        rows: rows of `pipeline.negative_table.NEGATIVES`.

    Raises:
        ValueError: a false caption is of a caption that the image does not have, or its kind is unknown.
    """
    numbers = {caption.text: number for number, caption in reversed(list(enumerate(captions)))}
    found = []
    for row in rows:
        if row["true_caption"] not in numbers:
            raise ValueError("a false caption of a caption that the graphs do not have; run pipeline.negatives on them")
        if row["kind"] not in NEGATIVE_KINDS:
            raise ValueError(f"a false caption of the unknown kind {row['kind']!r}")
        spans = tuple(Span(span["start"], span["end"]) for span in row["spans"])
        graph = SceneGraph.from_dict(row["caption"], row["graph"])
        number = numbers[row["true_caption"]]
        found.append(Negative(row["negative_id"], number, row["caption"], row["kind"], spans, graph))
    return tuple(found)


def make_negative_masks(negatives: Sequence[Negative], tokenizer: Tokenizer) -> NegativeMasks:
    """Returns the word pieces of false captions, the pieces of their nodes, and those that were changed."""
    changed = []
    for negative in negatives:
        pieces = np.array(tokenizer.encode(negative.text, add_special_tokens=False).offsets, np.int64).reshape(-1, 2)
        flags = np.zeros(len(pieces), bool)
        flags[cover_spans(pieces, negative.spans)] = True
        changed.append(flags)
    arrays = {
        "captions": np.array([negative.caption for negative in negatives]),
        "kinds": np.array([NEGATIVE_KINDS.index(negative.kind) for negative in negatives]),
        "changed": np.concatenate(changed),
    }
    texts = [Caption(negative.negative_id, negative.text, negative.graph) for negative in negatives]
    return NegativeMasks(
        make_masks(texts, tokenizer),
        **{name: arrays[name].astype(dtype) for name, dtype in NEGATIVE_DTYPES.items()},
    )
