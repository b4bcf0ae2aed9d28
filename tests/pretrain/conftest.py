import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from parsers.graph import SceneGraph, Span
from pretrain.data.batches import Collator
from pretrain.data.order import BatchPlan
from pretrain.data.pairs import PairLengths
from pretrain.model.config import ModelConfig
from pretrain.model.costs import PairCosts
from pretrain.model.heads import ErnieViLForPreTraining
from pretrain.recipe import Masking, PretrainRecipe
from shards import index
from shards.manifest import SCHEMA_VERSION, WITH_NEGATIVES, Classes, Manifest, ParserInfo, TokenizerInfo, Totals
from shards.reader import ShardSet
from shards.schema import NEGATIVE_KINDS, Caption, Masks, Negative, NegativeMasks, Regions, Sample
from shards.writer import ShardWriter
from tests.pretrain.launch import ROOT, Launch
from tests.pretrain.runs import MODEL, NO_DROPOUT, RECIPE, Runs

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(45))]
CLASSES, FEATURES = 6, 8


def make_sample(random, image_id):
    """An image with one to three captions of two objects, an attribute and a relation between other words."""
    n, captions = int(random.integers(1, 6)), int(random.integers(1, 4))
    lengths = random.integers(6, 20, captions)
    corner = random.uniform(0, 50, (n, 2))
    probabilities = random.dirichlet(np.ones(CLASSES), n)
    order = np.argsort(-probabilities, axis=1)
    tokens = np.array([[0], [4], [1], [2]])  # object, object, attribute of the first, relation of both
    masks = Masks(
        token_ids=random.integers(5, len(PIECES), lengths.sum()).astype(np.int32),
        segment_ids=np.zeros(lengths.sum(), np.uint8),
        token_offsets=np.append(0, np.cumsum(lengths)).astype(np.int32),
        node_kind=np.tile([0, 0, 1, 2], captions).astype(np.uint8),
        node_caption=np.repeat(np.arange(captions), 4).astype(np.int32),
        node_args=np.concatenate(
            [np.array([[-1, -1], [-1, -1], [4 * c, -1], [4 * c, 4 * c + 1]]) for c in range(captions)]
        ).astype(np.int32),
        node_tokens=np.tile(tokens.ravel(), captions).astype(np.int32),
        node_token_offsets=np.arange(4 * captions + 1).astype(np.int32),
    )
    regions = Regions(
        np.concatenate([corner, corner + random.uniform(5, 40, (n, 2))], axis=1).astype(np.float32),
        random.normal(size=(n, FEATURES)).astype(np.float16),
        order.astype(np.int16),
        np.take_along_axis(probabilities, order, 1).astype(np.float16),
    )
    texts = tuple(Caption(None, f"caption {c}", SceneGraph(f"caption {c}")) for c in range(captions))
    return Sample(image_id, 100, 100, texts, regions, masks)


def with_negatives(sample, random):
    """The sample with up to three false captions: texts of its captions with another piece at one of four nodes."""
    count = int(random.integers(0, 4))
    if not count:
        return sample
    masks = sample.masks
    captions = np.sort(random.integers(0, len(sample.captions), count)).astype(np.int32)
    pieces = [masks.token_ids[slice(*masks.token_offsets[c : c + 2])].copy() for c in captions.tolist()]
    changed = [np.zeros(len(of_one), np.uint8) for of_one in pieces]
    for of_one, flags in zip(pieces, changed, strict=True):
        place = int(random.choice([0, 4, 1, 2]))
        of_one[place], flags[place] = 5 + (of_one[place] - 4) % (len(PIECES) - 5), 1
    nodes = Masks(
        token_ids=np.concatenate(pieces),
        segment_ids=np.zeros(sum(map(len, pieces)), np.uint8),
        token_offsets=np.cumsum([0, *map(len, pieces)]).astype(np.int32),
        node_kind=np.tile(masks.node_kind[:4], count),
        node_caption=np.repeat(np.arange(count), 4).astype(np.int32),
        node_args=np.concatenate(
            [np.array([[-1, -1], [-1, -1], [4 * c, -1], [4 * c, 4 * c + 1]]) for c in range(count)]
        ).astype(np.int32),
        node_tokens=np.tile(masks.node_tokens[:4], count),
        node_token_offsets=np.arange(4 * count + 1).astype(np.int32),
    )
    kinds = random.integers(0, len(NEGATIVE_KINDS), count).astype(np.uint8)
    texts = tuple(
        Negative(f"n{n}", int(c), f"false {n}", NEGATIVE_KINDS[kind], (Span(0, 5),), SceneGraph(f"false {n}"))
        for n, (c, kind) in enumerate(zip(captions, kinds, strict=True))
    )
    found = NegativeMasks(nodes, captions, kinds, np.concatenate(changed))
    return replace(sample, negatives=texts, negative_masks=found)


def write_shards(folder, sizes, seed=0, negatives=False):
    """A set of shards with that many samples each."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    writers = []
    for number, size in enumerate(sizes):
        file = f"shard-{number:05d}.tar"
        with (folder / file).open("wb") as stream, ShardWriter(stream, file) as writer:
            for row in range(size):
                sample = make_sample(random, f"{number}-{row}")
                writer.write(with_negatives(sample, random) if negatives else sample)
        writers.append(writer)
    with (folder / "index.parquet").open("wb") as stream:
        schema = index.SCHEMA_WITH_NEGATIVES if negatives else index.SCHEMA
        index.write(stream, [writer.rows for writer in writers], schema=schema)
    vocabulary = "".join(piece + "\n" for piece in PIECES).encode()
    (folder / "vocab.txt").write_bytes(vocabulary)
    manifest = Manifest(
        schema_version=WITH_NEGATIVES if negatives else SCHEMA_VERSION,
        tokenizer=TokenizerInfo(sha256=hashlib.sha256(vocabulary).hexdigest(), size=len(PIECES)),
        parser=ParserInfo(name="test", version="1"),
        feature_size=FEATURES,
        classes=Classes(kind="distribution", count=CLASSES, background=0, names=None),
        totals=sum((writer.totals for writer in writers), Totals()),
        index_sha256=hashlib.sha256((folder / "index.parquet").read_bytes()).hexdigest(),
        shards=[writer.info for writer in writers],
    )
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return folder


@pytest.fixture(scope="session")
def shard_folder(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards") / "train", [7, 1, 12, 5, 9, 3])


@pytest.fixture(scope="session")
def negatives_folder(tmp_path_factory):
    """Shards with false captions."""
    return write_shards(tmp_path_factory.mktemp("shards") / "negatives", [7, 1, 12, 5, 9, 3], negatives=True)


@pytest.fixture(scope="session")
def shards(shard_folder):
    return ShardSet(shard_folder)


@pytest.fixture(scope="session")
def runs(tmp_path_factory, shard_folder):
    return Runs(tmp_path_factory.mktemp("runs"), shard_folder)


@pytest.fixture
def play(tmp_path, shard_folder):
    """Plays a scenario of `rank.py` on some ranks."""

    def play(scenario, ranks, model=NO_DROPOUT, shards=shard_folder):
        (tmp_path / "model.json").write_text(json.dumps(model))
        (tmp_path / "recipe.yaml").write_text(RECIPE)
        script = ROOT / "tests/pretrain/rank.py"
        return Launch([sys.executable, script, scenario, tmp_path, shards], tmp_path, ranks)

    return play


@pytest.fixture
def plan(shards):
    return BatchPlan(shards, seed=1, batch_size=11, block_shards=2, mismatch=0.5)


def collator_of(shards, **options):
    return Collator(
        shards, **({"seed": 1, "max_text": 16, "masking": Masking(), "images": "own", "device_type": "cpu"} | options)
    )


def recipe_of(**options):
    return PretrainRecipe.model_validate({"model": "model.json", "steps": 1} | options)


def lengths_of(pairs):
    """Text positions and image rows of some pairs."""
    return PairLengths(*np.array(pairs, np.int64).reshape(-1, 2).T)


@pytest.fixture(scope="session")
def toy():
    return ModelConfig.load(ROOT / "configs/model/toy.json")


@pytest.fixture(scope="session")
def pair(toy):
    return PairCosts.of(toy, torch.float32)


@pytest.fixture(scope="session")
def model():
    torch.manual_seed(0)
    # Large weights: answers of such a model depend on what it is shown.
    config = ModelConfig.model_validate(MODEL | {"initializer_range": 0.3})
    return ErnieViLForPreTraining(config).eval()
