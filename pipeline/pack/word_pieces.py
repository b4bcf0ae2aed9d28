"""Finds the word pieces of captions, and which of them each node of the scene graphs covers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from parsers.graph import Span
from shards.nodes import list_nodes, number_nodes
from shards.schema import MASK_DTYPES, Array, Caption, Masks


def make_masks(
    captions: Sequence[Caption], tokenizer: Tokenizer, segments: Sequence[Sequence[int]] | None = None
) -> Masks:
    """Returns the word pieces of an image's captions and the pieces that each node covers.

    A piece belongs to a node if it shares a character with one of the node's spans. Nodes are numbered over all
    captions; within a caption the objects come first, then the attributes, then the relations.

    Say the only caption is "red sidewalk" with the object "sidewalk" (characters 4 to 12) and its attribute "red" (0 to
    3), and the pieces are red (0 to 3), side (4 to 8) and ##walk (8 to 12). Node 0 is the object and covers the pieces
    1 and 2; node 1 is the attribute of node 0 and covers piece 0. So ``node_args`` is [[-1, -1], [0, -1]],
    ``node_tokens`` is [1, 2, 0], and ``node_token_offsets`` is [0, 2, 3]. If the caption went on with "and it is long"
    and "it" were a mention of the sidewalk, node 0 would cover the pieces 1, 2 and 4.

    Args:
        captions: the captions with their graphs.
        tokenizer: see `shards.vocabulary.load_tokenizer`.
        segments: for each caption, the characters where its second and further segments begin; None: one segment.
    """
    # One by one: for so few texts, the threads of a batch cost more than they save.
    encodings = [tokenizer.encode(caption.text, add_special_tokens=False) for caption in captions]
    tokens: list[Array] = []
    segment_ids: list[Array] = []
    for number, (caption, encoding) in enumerate(zip(captions, encodings, strict=True)):
        pieces = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        starts = segments[number] if segments is not None else ()
        segment_ids.append(np.searchsorted(np.array(starts, np.int64), pieces[:, 0], "right"))
        tokens += [cover_spans(pieces, node.spans) for node in list_nodes(caption.graph)]
    node_kind, node_caption, node_args = number_nodes([caption.graph for caption in captions])
    arrays = {
        "token_ids": np.concatenate([np.array(encoding.ids, np.int32) for encoding in encodings]),
        "segment_ids": np.concatenate(segment_ids),
        "token_offsets": np.cumsum([0, *(len(encoding.ids) for encoding in encodings)]),
        "node_kind": node_kind,
        "node_caption": node_caption,
        "node_args": node_args,
        "node_tokens": np.concatenate(tokens) if tokens else np.zeros(0),
        "node_token_offsets": np.cumsum([0, *map(len, tokens)]),
    }
    return Masks(**{name: arrays[name].astype(dtype) for name, dtype in MASK_DTYPES.items()})


def cover_spans(pieces: Array, spans: Sequence[Span]) -> Array:
    """Returns the numbers of the pieces, int64, that share a character with a span.

    Args:
        pieces: int64 [pieces, 2], the characters where each piece starts and ends.
        spans: the spans.
    """
    covered = np.zeros(len(pieces), bool)
    for span in spans:
        covered |= (pieces[:, 0] < span.end) & (pieces[:, 1] > span.start)
    return np.flatnonzero(covered)
