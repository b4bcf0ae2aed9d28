"""The card of a data set, and what ``datasets`` makes of it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from parsers.graph import Span
from tests.shards.samples import SAMPLES, write_shards

ROOT = Path(__file__).parents[3]


def with_mentions(sample):
    """The same with a second mention and a score in the first caption."""
    caption = sample.captions[0]
    thing = replace(caption.graph.objects[0], mentions=(Span(0, 1),), visible=0.625)
    graph = replace(caption.graph, objects=(thing, *caption.graph.objects[1:]))
    return replace(sample, captions=(replace(caption, graph=graph), *sample.captions[1:]))


@pytest.fixture
def folder(tmp_path):
    """Two sets, as pack writes them; only the last sample of the larger one has mentions."""
    (tmp_path / "data").mkdir()
    write_shards(tmp_path / "data/train", [SAMPLES[:4], [with_mentions(SAMPLES[4])]])
    write_shards(tmp_path / "data/val", [SAMPLES[5:]])
    return tmp_path / "data"


def make_card(folder, *options):
    command = [sys.executable, "-m", "shards.card", str(folder), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_card_has_a_head_and_what_is_in_the_sets(folder):
    done = make_card(folder)
    assert done.returncode == 0, done.stderr
    assert "FILL IN" in done.stdout
    text = (folder / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["license"], head["license_name"], head["size_categories"]) == ("other", "FILL IN", "n<1K")
    (samples,) = head["configs"]
    assert samples["data_files"] == [
        {"split": "train", "path": "train/*.tar"},
        {"split": "validation", "path": "val/*.tar"},
    ]
    assert "| images | 5 | 2 |" in text
    assert "the parser `test`, version `1`" in text
    assert "- objects: hat (" in text
    assert Image.open(folder / "card.png").size == (1280, 640)
    assert (folder / "card.png").name in text
    assert make_card(folder).returncode == 1
    (folder / "README.md").write_text("mine")
    assert "add --overwrite" in make_card(folder).stderr
    assert (folder / "README.md").read_text() == "mine"
    before = (folder / "card.png").read_bytes()
    assert make_card(folder, "--overwrite").returncode == 0
    assert (folder / "README.md").read_text() == text
    assert (folder / "card.png").read_bytes() == before


def test_a_single_set_and_a_folder_without_sets(folder, tmp_path):
    assert make_card(folder / "train").returncode == 0
    head = yaml.safe_load((folder / "train/README.md").read_text().split("---\n")[1])
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "*.tar"}]
    assert "empty: there is no such folder" in make_card(tmp_path / "empty").stderr
    (tmp_path / "empty").mkdir()
    assert "neither a set of shards nor a folder of sets" in make_card(tmp_path / "empty").stderr


LOAD = """
import sys
from datasets import load_dataset
folder, kind = sys.argv[1:]
if kind == "tars":
    rows = load_dataset("webdataset", data_files={"train": f"{folder}/train/*.tar"}, split="train")
else:
    sets = load_dataset(folder, "samples")
    rows = sets["train"]
    assert sets["validation"].num_rows == 2
    index = load_dataset("parquet", data_files=f"{folder}/train/index*.parquet", split="train")
    assert list(index["key"]) == list(rows["__key__"])
    graph = rows[4]["json"]["captions"][0]["graph"]
    assert graph["objects"][0]["mentions"] == [{"start": 0, "end": 1}], graph
    assert graph["objects"][0]["visible"] == 0.625, graph
features = rows[1]["features.npy"]
kind = rows.features["features.npy"].feature.feature.dtype
print(rows.num_rows, rows[1]["json"]["image_id"], len(features), len(features[0]), kind)
"""


@pytest.mark.parametrize("kind", ["tars", "card"])
def test_datasets_reads_a_set_without_a_network(folder, tmp_path, monkeypatch, kind):
    pytest.importorskip("datasets", reason="datasets is not installed")
    make_card(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    command = [sys.executable, "-c", LOAD, str(folder), kind]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "5 a.b 2 6 float16"


def test_the_name_of_a_folder_cannot_break_the_head(folder):
    odd = folder.rename(folder.with_name('a: "b" #c [x](javascript:1)'))
    assert make_card(odd).returncode == 0
    text = (odd / "README.md").read_text()
    assert yaml.safe_load(text.split("---\n")[1])["pretty_name"] == odd.name
    assert "[x](" not in text.split("---\n")[2]
