"""What the blocks of the pages start from: files of the toy world under the names that the pages give them."""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shards.reader import ShardSet
from tests.blocks.command import install
from tests.blocks.pages import ROOT

MAKE = {
    "toys": "ernie-vil toyworld --num-captions 2 --max-things 3 --tasks --out toys",
    "regions": "ernie-vil regions toys/regions --class-names toys/class_names.txt --out regions",
    "graphs": "ernie-vil parse toys/captions.json --parser sng --out graphs",
    "shards": "ernie-vil pack --graphs graphs --regions regions --tokenizer toys/vocab.txt --held-out-share 0.2 "
    "--out shards",
    "detector.safetensors": "ernie-vil train-detector --steps 2 --batch-size 2 --out detector.safetensors",
    "run": "ernie-vil pretrain --config demo --shards shards/train --out run",
    "retrieval": "ernie-vil finetune retrieval --config toy --start run --data toys/tasks/flickr30k --regions regions "
    "--out retrieval",
    "paddle": "ernie-vil import run/model --to-paddle --out paddle",
}
"""By name, the command that makes it. What it names must be there."""
NEEDS = {
    "regions": ["toys"],
    "graphs": ["toys"],
    "shards": ["graphs", "regions"],
    "run": ["shards"],
    "retrieval": ["run"],
    "paddle": ["run"],
}


class Kitchen:
    """A folder in which everything is made that pages are given, at most once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        install(folder / "bin")

    def run(self, text: str, cwd: Path) -> str:
        """Runs lines of a shell, and returns what they print."""
        environment = os.environ | {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def make(self, name: str) -> Path:
        """Returns what is called so, and makes it if it is not there."""
        path = self.folder / name
        if not path.exists():
            for needed in NEEDS.get(name, ()):
                self.make(needed)
            self.run(MAKE[name], self.folder)
        return path

    def give(self, name: str, page: Path) -> None:
        """Puts what a page is given into the folder in which it is run."""
        source, target = GIVEN[name], page / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if callable(source):
            source(self, target)
        elif (made := self.make(source.partition("/")[0]) / source.partition("/")[2]).is_dir():
            shutil.copytree(made, target)
        else:
            shutil.copy(made, target)


def write_captions_csv(kitchen, path):
    world = json.loads((kitchen.make("toys") / "captions.json").read_text())
    names = {image["id"]: image["file_name"] for image in world["images"]}
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "caption"])
        rows.writerows([names[row["image_id"]], row["caption"]] for row in world["annotations"])


def write_vqa(kitchen, folder):
    """The toy world's questions under the names of the official splits."""
    source = kitchen.make("toys") / "tasks/vqa"
    folder.mkdir()
    for ours, theirs in (("train", "train2014"), ("val", "val2014"), ("val", "test2015")):
        for path in source.glob(f"*_{ours}_*.json"):
            if theirs != "test2015" or "questions" in path.name:
                shutil.copy(path, folder / path.name.replace(f"_{ours}_", f"_{theirs}_"))


def write_results(kitchen, path):
    world = json.loads((kitchen.make("toys") / "captions.json").read_text())
    results = {row["image_id"]: row["caption"] for row in world["annotations"]}
    path.write_text(json.dumps([{"image_id": image, "caption": text} for image, text in results.items()]))


def write_photo(kitchen, path):
    shutil.copy(min((kitchen.make("toys") / "images").iterdir()), path)


def write_gone(kitchen, path):
    """An image of the shards, or a caption of it, to take out."""
    shards = ShardSet(kitchen.make("shards") / "train")
    image_id, _, _, captions = shards.record(*next(iter(shards)))
    line = {"image_id": image_id, "caption_id": captions[0].caption_id}
    path.write_text(json.dumps(line) + "\n" if path.suffix == ".jsonl" else f"{image_id}\n")


def write_id_map(kitchen, path):
    """From the ids of the regions to VCR's names of pictures."""
    lines = (kitchen.make("toys") / "tasks/vcr/train.jsonl").read_text().splitlines()
    names = sorted({json.loads(line)["img_fn"] for line in lines})
    pq.write_table(pa.table({"from": [Path(name).stem for name in names], "to": names}), path)


def write_gold(kitchen, path):
    """A few captions with their graphs."""
    rows = (ROOT / "tests/parsers/gold_captions.jsonl").read_text().splitlines()
    split = "test" if "dev" in path.name else "train"
    chosen = [row for row in rows if json.loads(row)["split"] == split][:24]
    path.write_text("".join(f"{row}\n" for row in chosen))


GIVEN = {
    "mine.jsonl": write_gold,
    "mine_dev.jsonl": write_gold,
    "captions.json": "toys/captions.json",
    "parsers/neural/model": lambda _, path: shutil.copytree(ROOT / "parsers/neural/model", path),
    "train.jsonl": "toys/tasks/vcr/train.jsonl",
    "VCR_resnet101_faster_rcnn_genome.lmdb": "toys/regions",
    "ids.parquet": write_id_map,
    "runs/base": "run",
    "runs/demo": "run",
    "photos": "toys/images",
    "photo.jpg": write_photo,
    "captions.csv": write_captions_csv,
    "detector.safetensors": "detector.safetensors",
    "captions_val2017.json": "toys/captions.json",
    "features": "toys/regions",
    "vocab.txt": "toys/vocab.txt",
    "gone.txt": write_gone,
    "gone.jsonl": write_gone,
    "results.json": write_results,
    "data/vqa": write_vqa,
    "data/flickr30k": "toys/tasks/flickr30k",
    "data/regions": "regions",
    "data/shards": "shards",
    "data/shards/train": "shards/train",
    "data/shards/val": "shards/val",
    "data/photos/shards/train": "shards/train",
    "data/cc3m/shards/train": "shards/train",
    "data/sbu/shards/train": "shards/val",
    "data/cc/train": "shards/train",
    "data/coco/train": "shards/val",
    "data/new/train": "shards/val",
    "runs/a": "run",
    "runs/flickr30k": "retrieval",
    "models/flickr30k": "retrieval/model",
    "models/base": "run/model",
    "ERNIE-ViL-base/params": "paddle",
    "ernie_vil_config.base.json": "run/model/config.json",
}
