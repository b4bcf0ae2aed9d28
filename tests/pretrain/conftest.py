import hashlib
import json
import sys

import numpy as np
import pytest
import torch

from parsers.graph import SceneGraph
from pretrain.data.batches import Collator
from pretrain.data.order import BatchPlan
from pretrain.data.pairs import PairLengths
from pretrain.model.config import ModelConfig
from pretrain.model.costs import PairCosts
from pretrain.model.heads import ErnieViLForPreTraining
from pretrain.recipe import Masking, PretrainRecipe
from shards import index
from shards.manifest import Classes, Manifest, ParserInfo, TokenizerInfo, Totals
from shards.reader import ShardSet
from shards.schema import Caption, Masks, Regions, Sample
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


def write_shards(folder, sizes, seed=0):
    """A set of shards with that many samples each."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    writers = []
    for number, size in enumerate(sizes):
        file = f"shard-{number:05d}.tar"
        with (folder / file).open("wb") as stream, ShardWriter(stream, file) as writer:
            for row in range(size):
                writer.write(make_sample(random, f"{number}-{row}"))
        writers.append(writer)
    with (folder / "index.parquet").open("wb") as stream:
        index.write(stream, [writer.rows for writer in writers])
    vocabulary = "".join(piece + "\n" for piece in PIECES).encode()
    (folder / "vocab.txt").write_bytes(vocabulary)
    manifest = Manifest(
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
