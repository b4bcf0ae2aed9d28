"""Importing and exporting checkpoints as users start it."""

import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from finetune.import_checkpoint import app
from parsers.command import InputError
from tests.finetune.conftest import RELEASED_HEAD
from tests.models import SMALL as CONFIG


def test_a_checkpoint_goes_in_and_comes_out(released_checkpoint, tmp_path):
    (tmp_path / "config.json").write_text(CONFIG.model_dump_json(exclude_none=True))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    arguments = [str(released_checkpoint), "--out", str(tmp_path / "ours")]
    assert CliRunner().invoke(app, arguments).exit_code == 2
    options = ["--size", str(tmp_path / "config.json"), "--tokenizer", str(tmp_path / "vocab.txt")]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "ours/import.json").read_text())["head"] == sorted(RELEASED_HEAD)
    assert (tmp_path / "ours/vocab.txt").exists()
    assert f"holds 5 word pieces, and the model has rows for {CONFIG.vocab_size}" in " ".join(result.output.split())
    back = CliRunner().invoke(app, [str(tmp_path / "ours"), "--to-paddle", "--out", str(tmp_path / "back")])
    assert back.exit_code == 0, back.output
    assert isinstance(
        CliRunner().invoke(app, [*arguments[:2], str(tmp_path / "back"), "--to-paddle"]).exception, InputError
    )


KILLED = """
import os, signal
from finetune.import_checkpoint import app
import finetune.released.checkpoints
from parsers.command import run
from shards.storage.files import NewFile

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

NewFile.publish = die
write, calls = finetune.released.checkpoints.write_variable, []

def write_or_die(*arguments):
    calls.append(1) if len(calls) < 3 else die()
    write(*arguments)

finetune.released.checkpoints.write_variable = write_or_die
run(app)
"""


@pytest.mark.parametrize("way", ["import", "export"])
def test_what_a_killed_run_left_is_removed_by_the_next(released_checkpoint, tmp_path, way):
    (tmp_path / "config.json").write_text(CONFIG.model_dump_json(exclude_none=True))
    line = [str(released_checkpoint), "--size", str(tmp_path / "config.json"), "--out", str(tmp_path / "models/a")]
    if way == "export":
        assert CliRunner().invoke(app, line).exit_code == 0
        line = [line[-1], "--to-paddle", "--out", str(tmp_path / "models/back")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *line], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list((tmp_path / "models").rglob(".*.tmp"))
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert not list((tmp_path / "models").rglob(".*"))
