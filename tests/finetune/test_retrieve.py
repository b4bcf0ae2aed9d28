"""Retrieval over a whole split as users start it: alone, on several ranks, and after a stop."""

import json
import signal
import subprocess
import sys

import numpy as np
from typer.testing import CliRunner

from finetune.retrieve import app as retrieve
from finetune.tasks.retrieval import score_matrix
from finetune.tasks.retrieval.captions import number_images
from tests.finetune.retrieval import ALONE, retrieve_arguments
from tests.pipeline.outputs import contents
from tests.pretrain.launch import Launch


def test_the_command_ranks_a_split(toys, task, trained, split, tmp_path):
    result = CliRunner().invoke(retrieve, retrieve_arguments(toys, trained[0], tmp_path / "out"))
    assert result.exit_code == 0, result.output
    scores = np.load(tmp_path / "out/scores.npy")
    predictions = task.read_predictions(tmp_path / "out/predictions.json")
    recalls = json.loads((tmp_path / "out/recalls.json").read_text())
    assert task.evaluate(predictions, split.examples) == recalls
    images, own = number_images(split.examples)
    assert scores.shape == (len(split.examples), len(images))
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = (scores >= scores[np.arange(len(own)), own][:, None]).sum(1).tolist()  # the pooled ReLUs make a few ties
    assert [prediction["rank"]["image"] for prediction in predictions] == ranks
    assert recalls["image/R@5"] == np.mean(np.array(ranks) <= 5)
    assert predictions[4]["images"] == [images[i] for i in order[4][:10]]
    inferred = task.infer(trained[1], split, batch_size=64, world=ALONE)
    assert [p["rank"] for p in inferred] == [p["rank"] for p in predictions]


def test_a_table_of_captions_is_ranked_as_it_is_divided(toys, task, trained, tmp_path):
    captions = task.read(toys.world / "tasks/flickr30k", "train")[:36]
    table = "".join(f"{caption.image_id}.jpg,{caption.text.replace(',', '')}\n" for caption in captions)
    (tmp_path / "captions.csv").write_text("photo,text\n" + table)
    line = ["--model", str(trained[0]), "--regions", str(toys.regions), "--columns", "image_id=photo,caption=text"]
    line += ["--data", str(tmp_path / "captions.csv"), "--out", str(tmp_path / "out")]
    missing = CliRunner().invoke(retrieve, [*line, "--split", "val"])
    assert "no regions for 2 images of val, e.g. " in str(missing.exception)  # named by file, and not by image id
    (tmp_path / "captions.csv").write_text("file,text\n" + table)
    line[line.index("image_id=photo,caption=text")] = "caption=text"
    result = CliRunner().invoke(retrieve, [*line, "--split", "val"])
    assert result.exit_code == 0, result.output
    ranked = json.loads((tmp_path / "out/predictions.json").read_text())
    held_out = task.with_columns({"caption": "text"}).read(tmp_path / "captions.csv", "val")
    assert [(item["caption_id"], item["image_id"]) for item in ranked] == [(c.caption_id, c.image_id) for c in held_out]
    assert len({caption.image_id for caption in held_out}) == 2


IN_SMALL_BLOCKS = """
import finetune.tasks.retrieval.score_matrix
from finetune.retrieve import app
from parsers.command import run

finetune.tasks.retrieval.score_matrix.BLOCK_PAIRS = 48
run(app)
"""
KILLED_AFTER_THREE = f"""
import os, signal
from shards.storage.files import NewFile

publish, blocks = NewFile.publish, []

def publish_or_die(file):
    if len(blocks) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    blocks.extend([file] if file.path.name.startswith("block-") else [])
    publish(file)

NewFile.publish = publish_or_die
{IN_SMALL_BLOCKS}
"""


def test_ranks_share_the_matrix_and_end_in_the_same_bytes(toys, trained, tmp_path, monkeypatch):
    line = [sys.executable, "-c", IN_SMALL_BLOCKS, *retrieve_arguments(toys, trained[0], tmp_path / "two")]
    printed = Launch(line, tmp_path, 2).succeed()
    assert "image/R@1" in printed
    monkeypatch.setattr(score_matrix, "BLOCK_PAIRS", 48)
    result = CliRunner().invoke(retrieve, retrieve_arguments(toys, trained[0], tmp_path / "one"))
    assert result.exit_code == 0, result.output
    two, one = contents(tmp_path / "two"), contents(tmp_path / "one")
    assert two == one
    assert sum("block-" in name for name in two) > 2


def test_killed_and_run_again_it_ends_in_the_same_bytes(toys, trained, tmp_path, monkeypatch):
    line = [sys.executable, "-c", KILLED_AFTER_THREE, *retrieve_arguments(toys, trained[0], tmp_path / "a")]
    killed = subprocess.run(line, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list((tmp_path / "a/blocks").glob("block-*.npy"))) == 3
    assert len(list((tmp_path / "a/blocks").glob(".block-*.tmp"))) == 1
    monkeypatch.setattr(score_matrix, "BLOCK_PAIRS", 48)
    for out in ("a", "b"):
        result = CliRunner().invoke(retrieve, retrieve_arguments(toys, trained[0], tmp_path / out))
        assert result.exit_code == 0, result.output
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
