"""Samples and sets of shards to test with, and what is asked of them in several tests."""

import hashlib
import json
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from shards import index
from shards.inspect.verify import verify_set
from shards.manifest import SCHEMA_VERSION, Classes, Manifest, ParserInfo, TokenizerInfo, Totals
from shards.members import encode_sample
from shards.reader import ShardSet
from shards.schema import MASK_DTYPES, Caption, Masks, Negative, NegativeMasks, Regions, Sample
from shards.writer import ShardWriter

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "hat", "on", "man"]
TEXT, FALSE = "a red hat on a man", "a red man on a hat"
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


def with_negatives(sample):
    """The sample with two false captions of its first caption and, if there is a second one, one of that."""
    captions = [0, 0, 1][: 2 + (len(sample.captions) > 1)]
    graph = SceneGraph(
        FALSE,
        (Object("man", Span(6, 9)), Object("hat", Span(15, 18))),
        (Attribute(0, "red", Span(2, 5)),),
        (Relation(0, 1, "on", (Span(10, 12),)),),
    )
    spans = (Span(6, 9), Span(15, 18))
    negatives = tuple(Negative(f"n{n}", c, FALSE, "swap_object", spans, graph) for n, c in enumerate(captions))
    count = len(captions)
    masks = make_sample("x", 2).masks  # three captions with the same nodes
    ends = {"token_ids": 6, "segment_ids": 6, "node_kind": 4, "node_caption": 4, "node_args": 4, "node_tokens": 4}
    arrays = {name: getattr(masks, name)[: ends[name] * count] for name in ends}
    arrays["token_ids"] = np.array([5, 6, 9, 8, 5, 7] * count, np.int32)
    arrays["token_offsets"] = masks.token_offsets[: count + 1]
    arrays["node_token_offsets"] = masks.node_token_offsets[: 4 * count + 1]
    negative_masks = NegativeMasks(
        Masks(**{name: arrays[name] for name in MASK_DTYPES}),
        np.array(captions, np.int32),
        np.zeros(count, np.uint8),
        np.array([0, 0, 1, 0, 0, 1] * count, np.uint8),
    )
    return replace(sample, negatives=negatives, negative_masks=negative_masks)


def write_shards(folder, shards, schema_version=SCHEMA_VERSION):
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
        schema = index.SCHEMA if schema_version == SCHEMA_VERSION else index.SCHEMA_WITH_NEGATIVES
        index.write(stream, [writer.rows for writer in writers], schema=schema)
    manifest = Manifest(
        schema_version=schema_version,
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


def manifest_of(folder):
    """The manifest of a set as a dict to change and write again, without its checksum."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("sha256", None)
    return manifest


def flip(path, position):
    """Flips the lowest bit of a byte."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def problems_of(folder):
    return [problem for _, problems in verify_set(ShardSet(folder, check_tars=False)) for problem in problems]


def samples_of(folder):
    """The samples of a set, which must be sound."""
    assert problems_of(folder) == []
    shards = ShardSet(folder)
    return [shards.sample(*place) for place in shards]


def assert_equal(found, expected):
    """Compares samples with all that they hold."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert (a.image_id, a.width, a.height, a.captions) == (b.image_id, b.width, b.height, b.captions)
        for part, names in (("regions", ("boxes", "features", "class_ids", "class_probs")), ("masks", MASK_DTYPES)):
            for name in names:
                left, right = getattr(getattr(a, part), name), getattr(getattr(b, part), name)
                assert (left is None) == (right is None)
                if right is not None:
                    np.testing.assert_array_equal(left, right, strict=True)


def encoded(sample):
    return {name: b"".join(chunks) for name, chunks in encode_sample(sample)}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@st.composite
def any_samples(draw, feature_size=st.integers(1, 5)):
    """Any sample that can be written: 1 to 3 captions of any text, with or without nodes and classes."""
    captions, counts = [], []
    kinds, owners, arguments, tokens = [], [], [], []
    for number in range(draw(st.integers(1, 3))):
        text = draw(ANY_TEXT.filter(bool))
        pieces = draw(st.integers(0, 6))
        first = len(kinds)
        span = Span(0, len(text))
        objects = draw(st.integers(0, 3))
        attributes = draw(st.lists(st.integers(0, objects - 1), max_size=2)) if objects else []
        pair = st.permutations(range(objects)).map(lambda order: tuple(order[:2]))
        relations = draw(st.lists(pair, max_size=2)) if objects > 1 else []
        kinds += [0] * objects + [1] * len(attributes) + [2] * len(relations)
        arguments += [(-1, -1)] * objects
        arguments += [(first + a, -1) for a in attributes] + [(first + s, first + o) for s, o in relations]
        owners += [number] * (len(kinds) - first)
        covered = st.sets(st.integers(0, pieces - 1)).map(sorted) if pieces else st.just([])
        tokens += draw(st.lists(covered, min_size=len(kinds) - first, max_size=len(kinds) - first))
        counts.append(pieces)
        graph = SceneGraph(
            text,
            tuple(Object("thing", span) for _ in range(objects)),
            tuple(Attribute(a, "red", span) for a in attributes),
            tuple(Relation(s, o, "have", ()) for s, o in relations),
        )
        captions.append(Caption(draw(st.none() | ANY_TEXT), text, graph))
    total = sum(counts)
    arrays = {
        "token_ids": np.array(draw(st.lists(st.integers(0, 30521), min_size=total, max_size=total))),
        "segment_ids": np.zeros(total),
        "token_offsets": np.cumsum([0, *counts]),
        "node_kind": np.array(kinds),
        "node_caption": np.array(owners),
        "node_args": np.array(arguments).reshape(-1, 2),
        "node_tokens": np.array([t for node in tokens for t in node]),
        "node_token_offsets": np.cumsum([0, *map(len, tokens)]),
    }
    masks = Masks(**{name: arrays[name].astype(dtype) for name, dtype in MASK_DTYPES.items()})
    n, d, k = draw(st.integers(1, 4)), draw(feature_size), draw(st.integers(0, 3))
    values = np.random.default_rng(draw(st.integers(0, 2**32)))
    regions = Regions(
        np.tile(np.array([0, 0, 5, 5], np.float32), (n, 1)) + values.random((n, 1), np.float32),
        values.standard_normal((n, d)).astype(np.float16),
        values.integers(0, 1600, (n, k)).astype(np.int16) if k else None,
        (values.random((n, k)) / 4).astype(np.float16) if k else None,
    )
    return Sample(draw(ANY_TEXT.filter(bool)), 10, 8, tuple(captions), regions, masks)


def with_size(data, size):
    """The header of a member with another size, and the checksum that belongs to it."""
    header = bytearray(data[:512])
    header[124:136] = (
        b"\x80" + size.to_bytes(11, "big") if size >= 0 else b"\xff" + (256**11 + size).to_bytes(11, "big")
    )
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]
