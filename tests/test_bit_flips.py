"""Thirty bits of each kind of file that the product reads back are flipped: each is found, or changes nothing.

``python -m tests.test_bit_flips`` prints the table of docs/robustness.md.
"""

import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from parsers.command import InputError
from shards.storage.files import read_json, read_record, unseal
from shards.storage.parquet import parquet_file

ROOT = Path(__file__).parents[1]
FLIPS = 30
BUILD = """
import os, sys
from pathlib import Path
from tests.fuzz import seeds
from tests.fuzz.targets import call

os.chdir(sys.argv[1])
call("pipeline.toyworld --num-images 24 --num-captions 2 --min-things 2 --max-things 3 --tasks --workers 1 --out world")
names = "--class-names world/class_names.txt --workers 1"
call(f"pipeline.regions world/regions {names} --partition-size 16 --out regions")
call(f"pipeline.regions world/tasks/vcr/regions {names} --out gold")
call("pipeline.parse world/captions.json --parser sng --workers 1 --partition-size 32 --out graphs")
call("pipeline.pack --graphs graphs --regions regions --tokenizer world/vocab.txt --workers 1 --out shards")
call("pipeline.toyworld.train_detector --steps 2 --batch-size 2 --out detector.safetensors")
call("pipeline.extract world/images --detector toyworld --weights detector.safetensors --workers 1 --out extracted")
call("pipeline.statistics graphs --workers 1 --out statistics")
seeds.write_lists(Path("lists"))
seeds.write_recipes(Path("recipes"))
seeds.write_models(Path("models"))
call("pretrain.run --config recipes/pretrain.yaml --shards shards/train --out run")
call("finetune.retrieve --model models/retrieval --data world/tasks/flickr30k --split val --regions regions "
     "--out retrieved")
"""

pytestmark = pytest.mark.slow


def build(folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], env=environment, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    build(folder)
    return folder


# -------------------------------------------------------------------------------------------- what reads each kind


def graphs(path):
    from pipeline.graph_table import read_graphs

    return [batch.to_pylist() for batch in read_graphs(path, 1000)]


def table(path):
    return parquet_file(path).read().to_pylist()


def regions(path):
    from shards.regions.table import RegionsInfo, open_regions, read_rows, regions_table

    info = RegionsInfo.from_file(path)
    rows = read_rows(open_regions(path).read(), info.feature_size)
    return info, regions_table(list(rows)).to_pylist()


def record(path):
    return read_record(path)


def marker(path):
    from pipeline.execution.parts import read_marker

    found = read_marker(path.parent, 0)
    if found is None:  # the part is made again
        raise InputError("the part is not complete")
    return found


def sealed(path):
    return unseal(path.read_bytes(), path)


def shards(path):
    from shards.inspect.verify import verify_set
    from shards.reader import ShardSet

    opened = ShardSet(path.parent, check_tars=False)
    if any(problems for _, problems in verify_set(opened)):
        raise InputError("verify names it")
    return opened.manifest, opened.vocabulary


def weights(state):
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def fine_tuned(path):
    import torch

    from finetune.model_folder import load_fine_tuned, load_task
    from finetune.tasks.vqa import Vqa

    task = load_task(path.parent, Vqa)
    model = load_fine_tuned(path.parent, task, torch.device("cpu"))
    return task.settings, weights(model.state_dict())


def checkpoint(path):
    import torch

    from pretrain.training.checkpoints import RECORD, Checkpoints
    from pretrain.training.distributed import DistributedContext

    folder = next(parent for parent in path.parents if parent.name == "checkpoints")
    fingerprint = read_json(folder / "step-1" / RECORD)["identity"]
    world = DistributedContext(0, 1, torch.device("cpu"))
    return Checkpoints(folder, keep=1, fingerprint=fingerprint, world=world).find()


def vocabulary(path):
    from shards.vocabulary import read_vocabulary

    return read_vocabulary(path)


def cheap_score(path):
    from finetune.tasks.retrieval.cheap_score import load_cheap_score

    return weights(load_cheap_score(path, path.parent / "models/retrieval").state_dict())


def scenes(path):
    from pipeline.toyworld.write import read_scenes

    return list(read_scenes(path))


KINDS = {
    "part of graphs": ("graphs/part-00000.parquet", graphs),
    "part of regions": ("regions/part-00000.parquet", regions),
    "stage.json": ("regions/stage.json", record),
    "report.json": ("graphs/report.json", record),
    ".files.json": ("graphs/.files.json", record),
    "marker of a part": ("graphs/part-00000.stats.json", marker),
    "accounts.json": ("shards/accounts.json", record),
    "parts/*.json of pack": ("shards/parts/part-00000.train.json", sealed),
    "manifest.json": ("shards/train/manifest.json", shards),
    "index.parquet": ("shards/train/index.parquet", shards),
    "vocab.txt of shards": ("shards/train/vocab.txt", shards),
    "tar of shards": ("shards/train/shard-00000.tar", shards),
    "hashes of pictures": ("extracted/hashes/part-00000.parquet", table),
    "counts of statistics": ("statistics/part-00000.parquet", table),
    "config.json of a model": ("models/vqa/config.json", fine_tuned),
    "model.safetensors": ("models/vqa/model.safetensors", fine_tuned),
    "vocab.txt of a model": ("models/vqa/vocab.txt", vocabulary),
    "task.json": ("models/vqa/task.json", fine_tuned),
    "checksums.json": ("models/vqa/checksums.json", fine_tuned),
    "shortlist.safetensors": ("shortlist.safetensors", cheap_score),
    "plan.json of retrieval": ("retrieved/blocks/plan.json", record),
    "score block": ("retrieved/blocks/block-00000.npy", sealed),
    "scenes.jsonl": ("world/scenes.jsonl", scenes),
    "states of a checkpoint": ("run/checkpoints/step-2/mp_rank_00_model_states.pt", checkpoint),
    "checkpoint.json": ("run/checkpoints/step-2/checkpoint.json", checkpoint),
    "latest": ("run/checkpoints/latest", checkpoint),
}


def flip_bits(path, read, seed=0):
    """Flips single bits of a file, and reads each time. Returns how many were found, changed nothing, and were not
    found though something else was read."""
    sound, before = path.read_bytes(), read(path)
    outcomes = Counter()
    for bit in random.Random(seed).sample(range(8 * len(sound)), FLIPS):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            outcomes["same" if read(path) == before else "wrong"] += 1
        except InputError:
            outcomes["found"] += 1
    path.write_bytes(sound)
    return outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_or_changes_nothing(made, kind):
    name, read = KINDS[kind]
    outcomes = flip_bits(made / name, read)
    assert outcomes["wrong"] == 0
    assert outcomes["found"] > FLIPS // 2


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        build(folder)
        print("| file | found | same result | wrong |\n| --- | --- | --- | --- |")
        for kind, (name, read) in KINDS.items():
            outcomes = flip_bits(Path(folder, name), read, seed=1)
            print(f"| {kind} | {outcomes['found']} | {outcomes['same']} | {outcomes['wrong']} |", flush=True)
