"""The mistakes of newcomers: each is answered by one line that says what is wrong and what to do.

Docs/troubleshooting.md lists the lines, and names the tests of those that need more than a command line.
"""

import re
import shlex
import sys
from pathlib import Path

import pytest

from matcher.command import app
from parsers.command import run

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/troubleshooting.md").read_text()

WORLD = """
toyworld --num-images 24 --num-captions 2 --tasks --workers 1 --out toys
parse toys/captions.json --parser sng --workers 1 --out graphs
regions toys/regions --class-names toys/class_names.txt --workers 1 --out regions
pack --graphs graphs --regions regions --tokenizer toys/vocab.txt --workers 1 --out shards
"""

VQA = "--data toys/tasks/vqa --regions regions --out new"
MISTAKES = {
    "pars toys/captions.json --out new": "No such command 'pars'. Did you mean 'parse'?",
    "parse toys/captions.json --oot new": "No such option: --oot; did you mean --out?",
    "parse toys/captions.json": "Missing option '--out'",
    "parse --out new": "Missing argument 'CAPTIONS...'",
    "parse toys/captions.json --workers many --out new": "Invalid value for '--workers'",
    "pack --graphs graphs --regions regions --tokenizer toys/vocab.txt --held-out-share 10 --out new": (
        "Invalid value for '--held-out-share'"
    ),
    "parse toys/captons.json --out new": "there is no such file or folder; did you mean toys/captions.json?",
    "parse toys/images --out new": "is a folder, not a file; name the files in it",
    "parse toys/class_names.txt --out new": "format not recognised; a table needs a header with the column 'caption'",
    "parse toys/captions.json --format cooco --out new": "'cooco' is none of auto, coco",
    "parse toys/captions.json --parser neuarl --out new": "there is no parser 'neuarl'; installed are",
    "parse toys/captions.json --out toys": "holds an input of this run; name another --out folder",
    "parse toys/captions.json --parser sng --min-visible 0 --out graphs": "the output of a run with other settings",
    "extract toys/imagse --out new": "there is no such file or folder; did you mean toys/images?",
    "extract toys/images --detector nope --out new": "there is no detector 'nope'; installed are",
    "extract toys/images --device cuda --out new": "the installed PyTorch sees no GPU; --device cpu does without",
    "regions toys/images --out new": "format not recognised; name it with --format",
    "regions toys/regions --class-names toys/vocab.txt --out new": "class names are given",
    "pack --graphs regions --regions graphs --tokenizer toys/vocab.txt --out new": "are two folders swapped?",
    "pack --graphs graphs --regions toys/regions --tokenizer toys/vocab.txt --out new": "no stage wrote it",
    "pack --graphs graphs --regions regions --tokenizer toys/class_names.txt --out new": (
        "a BERT vocabulary has one word piece a line"
    ),
    "pack --graphs graphs --regions regions --tokenizer toys/vocab/txt --out new": "no file or folder here",
    "inspect show shards 3": "holds the shard sets train; name one of them",
    "inspect show shards/train 99999": "no sample '99999'",
    "inspect summary graphs": "has no manifest.json",
    "pretrain --config tinny --shards shards/train --out new": "did you mean tiny?",
    "pretrain --config configs/demo.yaml --shards shards/train --out new": "did you mean demo?",
    "pretrain --config demo --shards shards/train --set stepz=4 --out new": "there is no such key; did you mean steps?",
    "pretrain --config demo --shards shards/train --set learning_rate=1 --out new": (
        "did you mean optimizer.learning_rate?"
    ),
    "pretrain --config demo --shards shards/train --set steps=four --out new": "steps: Input should be a valid integer",
    "costs --size bse": "did you mean base?",
    f"finetune vqq --config toy --start model {VQA}": "'vqq' is none of vqa",
    f"finetune vqa --config tyo --start model {VQA}": "did you mean toy?",
    f"predict vqa --model model --split val {VQA}": "is not fine-tuned yet",
    f"predict vqa --model shards --split val {VQA}": "neither a fine-tuned model (with task.json) nor a run",
    "cloze --model graphs --held-out shards/train": "neither a model (config.json, model.safetensors, vocab.txt) nor",
    "evaluate vqa --predictions toys/captions.json --data toys/tasks/vqa --split val": "is not a VQA result file",
    "evaluate vqa --predictions answers.json --data toys/tasks/vcr --split val": "cannot be read",
}
"""Command lines, and what the answer holds."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with the output of every stage, and what looks like a pretrained model."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in WORLD.strip().splitlines():
            patch.setattr(sys, "argv", ["ernie-vil", *shlex.split(line)])
            with pytest.raises(SystemExit) as ended:
                run(app)
            assert ended.value.code == 0, line
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text("{}")
    (folder / "answers.json").write_text("[]")
    return folder


def files_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_by_one_line(world, line, monkeypatch, capfd):
    monkeypatch.chdir(world)
    monkeypatch.setattr(sys, "argv", ["ernie-vil", *shlex.split(line)])
    before = files_in(world)
    with pytest.raises(SystemExit) as ended:
        run(app)
    answer = capfd.readouterr().err
    assert ended.value.code in (1, 2)
    assert answer.startswith("error: ")
    assert answer.count("\n") == 1
    assert MISTAKES[line] in answer
    assert files_in(world) == before, "a refused command leaves nothing behind"


def rows():
    """The rows of the page: a message, and the test of it or nothing."""
    return re.findall(r"^\| `(.+?)` \| .+ \| (?:`([\w/.:]+)`)? ?\|$", PAGE, re.M)


def test_the_page_lists_every_message_of_these_tests():
    listed = [message for message, _ in rows()]
    missing = {part for part in MISTAKES.values() if not any(part in message or message in part for message in listed)}
    assert not missing
    assert len(listed) >= 30


@pytest.mark.parametrize(("message", "test"), rows())
def test_every_message_of_the_page_is_tested(message, test):
    if test:
        file, _, name = test.partition("::")
        assert f"\ndef {name}(" in (ROOT / file).read_text()
    else:
        assert any(message in part or part in message for part in MISTAKES.values())
