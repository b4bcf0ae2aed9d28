"""Every command that writes a folder refuses one that another run writes, and leaves it as it is."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from shards.storage.lock import LOCK, lock_folder

ROOT = Path(__file__).parents[1]
TRIES = 20
LINES = (
    """
pipeline.parse captions/coco.json --parser sng --workers 1 --out OUT
pipeline.regions features/npz --class-names features/names.txt --workers 1 --out OUT
pipeline.extract pictures --detector toyworld --weights detector.safetensors --workers 1 --out OUT
pipeline.pack --graphs graphs --regions regions --tokenizer world/vocab.txt --workers 1 --out OUT
pipeline.statistics graphs --workers 1 --out OUT
pipeline.toyworld --num-images 2 --num-captions 1 --workers 1 --out OUT
shards.edit remove shards/train --image-ids lists/ids.txt --out OUT
shards.edit append shards/train shards/val --out OUT
shards.edit merge shards/train shards/val --out OUT
pretrain.run --config recipes/pretrain.yaml --shards shards/train --out OUT
finetune.run vqa --config recipes/vqa.yaml --start run --data world/tasks/vqa --regions regions --out OUT
pretrain.ablation recipes/pretrain.yaml --shards shards/train --held-out shards/val --out OUT
pretrain.folds shards/train --config recipes/pretrain.yaml --folds 2 --out OUT
finetune.import_checkpoint models/bert --size recipes/model.json --out OUT
finetune.retrieve --model models/retrieval --data world/tasks/flickr30k --split val --regions regions --out OUT
finetune.shortlist --model models/retrieval --data world/tasks/flickr30k --regions regions --steps 2 \
--out OUT/cheap.safetensors
finetune.comparison --world world --regions regions --gold-regions gold --start pretrained=run/model --untrained \
--task vqa --out OUT
""".replace("\\\n", "")
    .strip()
    .splitlines()
)
RACES = (
    "pipeline.toyworld --num-images 2 --num-captions 1 --workers 1 --out OUT",
    "shards.edit merge shards/train shards/val --out OUT",
)
PROGRAM = """
import sys
from click import ClickException
from parsers.command import InputError
from tests.fuzz.targets import app_of, call

app_of(sys.argv[1].split()[0])
print("ready", flush=True)
for out in sys.stdin:
    try:
        call(sys.argv[1].replace("OUT", out.strip()))
        print("RESULT written", flush=True)
    except InputError as error:
        print("RESULT", error, flush=True)
    except ClickException as error:
        print("RESULT", error.format_message(), flush=True)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locks") / "seeds"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "tests.fuzz.seeds", str(folder)], env=environment, check=True)
    return folder


class Runner:
    """A process that runs a command in one folder after the other."""

    def __init__(self, seeds, line):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, line], cwd=seeds, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout.readline() == "ready\n"

    def start(self, out):
        self._process.stdin.write(f"{out}\n")
        self._process.stdin.flush()

    def result(self):
        """What came of the run that was started."""
        for line in self._process.stdout:
            if line.startswith("RESULT "):
                return line.removeprefix("RESULT ").strip()
        raise AssertionError("the process died")

    def end(self):
        self._process.communicate()


def read_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def list_files(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(shlex.split(line)[:2]))
def test_a_folder_that_another_run_writes_is_refused_and_stays_as_it_is(seeds, line):
    """The test holds the lock for 20 tries of the command."""
    out = seeds / "held"
    before = list_files(seeds)
    runner = Runner(seeds, line)
    with lock_folder(out):
        for _ in range(TRIES):
            runner.start(out)
            assert f"{out}: process {os.getpid()} on " in (said := runner.result()), said
            assert "writes to this folder" in said
            assert [path.name for path in out.iterdir()] == [LOCK]
    runner.end()
    assert list_files(seeds) == before


@pytest.mark.parametrize("line", RACES, ids=lambda line: " ".join(shlex.split(line)[:2]))
def test_of_two_that_start_together_one_writes_what_it_writes_alone(seeds, tmp_path, line):
    runners = [Runner(seeds, line) for _ in range(2)]
    runners[0].start(tmp_path / "alone")
    assert runners[0].result() == "written"
    alone = read_files(tmp_path / "alone")
    for number in range(TRIES):
        out = tmp_path / f"out-{number}"
        for runner in runners[:: 1 - 2 * (number % 2)]:
            runner.start(out)
        results = [runner.result() for runner in runners]
        assert results.count("written") == 1, results
        (refusal,) = (result for result in results if result != "written")
        assert str(out) in refusal
        assert any(part in refusal for part in ("writes to this folder", "is not empty", "is there already")), refusal
        assert read_files(out) == alone
    for runner in runners:
        runner.end()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["alone", *(f"out-{n}" for n in range(TRIES))])
