"""Samples and sets of shards to test with."""

import hashlib

import numpy as np

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from shards import index
from shards.schema import (
    MASK_DTYPES,
    Caption,
    Classes,
    Manifest,
    Masks,
    ParserInfo,
    Regions,
    Sample,
    TokenizerInfo,
    Totals,
)
from shards.writer import ShardWriter

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "hat", "on", "man"]
TEXT = "a red hat on a man"
IDS = [
    "285",
    "a.b",
    "a.c",
    "http://x.org/é/1.jpg?s=1&t=2",
    "🚒/🚒.png",
    "long-" + "x" * 300 + ".jpg",
    "COCO_val2014_000000000285",
]
FEATURES, CLASSES = 6, 3


def make_sample(image_id, seed, with_classes=True):
    values = np.random.default_rng(seed)
    n, captions = 1 + seed % 4, 1 + seed % 3
    graph = SceneGraph(
        TEXT,
        (Object("hat", Span(6, 9)), Object("man", Span(15, 18))),
        (Attribute(0, "red", Span(2, 5)),),
        (Relation(0, 1, "on", (Span(10, 12),)),),
    )
    low = values.uniform(0, 40, (n, 2))
    regions = Regions(
        np.concatenate([low, low + values.uniform(1, 40, (n, 2))], axis=1).astype(np.float32),
        values.standard_normal((n, FEATURES)).astype(np.float16),
        values.integers(0, 10, (n, CLASSES)).astype(np.int16) if with_classes else None,
        (values.random((n, CLASSES)) / CLASSES).astype(np.float16) if with_classes else None,
    )
    arrays = {
        "token_ids": [5, 6, 7, 8, 5, 9] * captions,
        "segment_ids": [0] * 6 * captions,
        "token_offsets": [6 * c for c in range(captions + 1)],
        "node_kind": [0, 0, 1, 2] * captions,
        "node_caption": [c for c in range(captions) for _ in range(4)],
        "node_args": [pair for c in range(captions) for pair in ((-1, -1), (-1, -1), (4 * c, -1), (4 * c, 4 * c + 1))],
        "node_tokens": [2, 5, 1, 3] * captions,
        "node_token_offsets": range(4 * captions + 1),
    }
    masks = Masks(**{name: np.array(arrays[name], dtype) for name, dtype in MASK_DTYPES.items()})
    captions = tuple(Caption(f"{seed}-{c}" if c else None, TEXT, graph) for c in range(captions))
    return Sample(image_id, 90, 85, captions, regions, masks)


SAMPLES = [make_sample(image_id, seed) for seed, image_id in enumerate(IDS)]


def write_shards(folder, shards):
    folder.mkdir(exist_ok=True)
    vocabulary = "".join(f"{piece}\n" for piece in VOCABULARY).encode()
    (folder / "vocab.txt").write_bytes(vocabulary)
    writers = []
    for number, samples in enumerate(shards):
        file = f"shard-{number:05d}.tar"
        with (folder / file).open("wb") as stream, ShardWriter(stream, file) as writer:
            for sample in samples:
                writer.write(sample)
        writers.append(writer)
    with (folder / "index.parquet").open("wb") as stream:
        index.write(stream, [writer.rows for writer in writers])
    manifest = Manifest(
        tokenizer=TokenizerInfo(sha256=hashlib.sha256(vocabulary).hexdigest(), size=len(VOCABULARY)),
        parser=ParserInfo(name="test", version="1"),
        feature_size=FEATURES,
        classes=Classes(kind="top-k", count=10, background=None, names=[f"class {i}" for i in range(10)]),
        totals=sum((writer.totals for writer in writers), Totals()),
        index_sha256=hashlib.sha256((folder / "index.parquet").read_bytes()).hexdigest(),
        shards=[writer.info for writer in writers],
    )
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
