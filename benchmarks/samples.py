"""Generated images as shards: 36 regions of 2,048 features, their 20 most likely classes, and five captions each."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from shards import index
from shards.manifest import MANIFEST, Classes, Manifest, ParserInfo, TokenizerInfo, Totals
from shards.schema import MASK_DTYPES, Caption, Masks, Regions, Sample
from shards.vocabulary import VOCABULARY
from shards.writer import ShardWriter

BOXES, FEATURES, TOP_CLASSES, CAPTIONS = 36, 2048, 20, 5
TEXT = "a red hat on a man standing near the fire hydrant"
GRAPH = SceneGraph(
    TEXT,
    (Object("hat", Span(6, 9)), Object("man", Span(15, 18)), Object("fire hydrant", Span(37, 49))),
    (Attribute(0, "red", Span(2, 5)),),
    (Relation(0, 1, "on", (Span(10, 12),)), Relation(1, 2, "stand near", (Span(19, 32),))),
)
PIECES = 11
WORDS, SPECIAL = 30_000, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_sample(number: int) -> Sample:
    """Makes an image with five captions of eleven word pieces and six nodes each."""
    random = np.random.default_rng(number)
    corner = random.uniform(0, 300, (BOXES, 2))
    kinds = [0, 0, 0, 1, 2, 2]
    arguments = np.array([(-1, -1)] * 3 + [(0, -1), (0, 1), (1, 2)])
    ends = np.array([1, 2, 4, 5, 6, 8])
    first = len(kinds) * np.arange(CAPTIONS)[:, None, None]
    arrays = {
        "token_ids": random.integers(len(SPECIAL), WORDS, PIECES * CAPTIONS),
        "segment_ids": np.zeros(PIECES * CAPTIONS),
        "token_offsets": PIECES * np.arange(CAPTIONS + 1),
        "node_kind": np.tile(kinds, CAPTIONS),
        "node_caption": np.repeat(np.arange(CAPTIONS), len(kinds)),
        "node_args": np.where(arguments < 0, -1, arguments + first).reshape(-1, 2),
        "node_tokens": np.tile([2, 5, 8, 9, 1, 3, 6, 7], CAPTIONS),
        "node_token_offsets": np.append(0, (ends + 8 * np.arange(CAPTIONS)[:, None]).ravel()),
    }
    regions = Regions(
        np.concatenate([corner, corner + random.uniform(1, 100, (BOXES, 2))], axis=1).astype(np.float32),
        random.standard_normal((BOXES, FEATURES), np.float32).astype(np.float16),
        random.integers(0, 1600, (BOXES, TOP_CLASSES)).astype(np.int16),
        (random.random((BOXES, TOP_CLASSES)) / TOP_CLASSES).astype(np.float16),
    )
    masks = Masks(**{name: np.asarray(arrays[name], dtype) for name, dtype in MASK_DTYPES.items()})
    captions = tuple(Caption(f"{number}-{caption}", TEXT, GRAPH) for caption in range(CAPTIONS))
    return Sample(f"COCO_train2014_{number:012}", 640, 480, captions, regions, masks)


def write_set(folder: Path, images: int, *, shard: int) -> None:
    """Writes a set of shards of ``shard`` samples each."""
    writers = []
    for first in range(0, images, shard):
        samples = [make_sample(number) for number in range(first, min(images, first + shard))]
        writers.append(write_ours(samples, folder / f"shard-{first:06d}.tar"))
    describe(folder, writers)


def write_ours(samples: list[Sample], path: Path) -> ShardWriter:
    """Writes a shard to a file."""
    with path.open("wb") as stream:
        return write_shard(samples, stream, path.name)


def write_shard(samples: list[Sample], stream: BinaryIO, name: str) -> ShardWriter:
    """Writes a shard to an open file; ``name`` is its name in the manifest."""
    with ShardWriter(stream, name) as writer:
        for sample in samples:
            writer.write(sample)
    return writer


def describe(folder: Path, writers: list[ShardWriter]) -> None:
    """Writes the index and the manifest of the shards."""
    vocabulary = "".join(f"{piece}\n" for piece in (*SPECIAL, *range(WORDS - len(SPECIAL)))).encode()
    (folder / VOCABULARY).write_bytes(vocabulary)
    with (folder / index.FILE).open("wb") as stream:
        index.write(stream, [writer.rows for writer in writers])
    manifest = Manifest(
        tokenizer=TokenizerInfo(sha256=hashlib.sha256(vocabulary).hexdigest(), size=WORDS),
        parser=ParserInfo(name="benchmark", version="1"),
        feature_size=FEATURES,
        classes=Classes(kind="top-k", count=1600, background=None, names=None),
        totals=sum((writer.totals for writer in writers), Totals()),
        index_sha256=hashlib.sha256((folder / index.FILE).read_bytes()).hexdigest(),
        shards=[writer.info for writer in writers],
    )
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
