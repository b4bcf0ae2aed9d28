"""Pairs the nodes of scene graphs with the word pieces that they cover."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from parsers.graph import Span
from shards.nodes import list_nodes, number_nodes
from shards.schema import MASK_DTYPES, Caption, Masks


def make_masks(
    captions: Sequence[Caption], tokenizer: Tokenizer, segments: Sequence[Sequence[int]] | None = None
) -> Masks:
    """The word pieces of an image's captions and which of them each node covers.

    A piece belongs to a node if it shares a character with one of the node's spans.

    Args:
        segments: for each caption the characters where its second and further segments begin.
    """
    # One by one: for so few, the threads of a batch cost more than they save.
    encodings = [tokenizer.encode(caption.text, add_special_tokens=False) for caption in captions]
    tokens: list[np.ndarray] = []
    segment_ids: list[np.ndarray] = []
    for number, (caption, encoding) in enumerate(zip(captions, encodings, strict=True)):
        pieces = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        starts = segments[number] if segments is not None else ()
        segment_ids.append(np.searchsorted(np.array(starts, np.int64), pieces[:, 0], "right"))
        tokens += [_covered(pieces, node.spans) for node in list_nodes(caption.graph)]
    node_kind, node_caption, node_args = number_nodes([caption.graph for caption in captions])
    token_ids = np.concatenate([np.array(encoding.ids, np.int32) for encoding in encodings])
    arrays = {
        "token_ids": token_ids,
        "segment_ids": np.concatenate(segment_ids),
        "token_offsets": np.cumsum([0, *(len(encoding.ids) for encoding in encodings)]),
        "node_kind": node_kind,
        "node_caption": node_caption,
        "node_args": node_args,
        "node_tokens": np.concatenate(tokens) if tokens else np.zeros(0),
        "node_token_offsets": np.cumsum([0, *map(len, tokens)]),
    }
    return Masks(**{name: arrays[name].astype(dtype) for name, dtype in MASK_DTYPES.items()})


def _covered(pieces: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    covered = np.zeros(len(pieces), bool)
    for span in spans:
        covered |= (pieces[:, 0] < span.end) & (pieces[:, 1] > span.start)
    return np.flatnonzero(covered)
