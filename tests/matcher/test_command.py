"""One command starts all others: it is fast, complete, and says what each of them does."""

import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from benchmarks.startup import commands
from matcher.command import COMMANDS, load_command
from tests.commands_page import list_commands, list_options
from tests.pretrain.conftest import write_shards
from tests.pretrain.runs import Runs

ROOT = Path(__file__).resolve().parents[2]


def ernie_vil(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "matcher.command", *map(str, arguments)],
        env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def parts(name):
    """A command, or the commands of a group, with the words that call it."""
    command = get_command(importlib.import_module(COMMANDS[name].module).app)
    inside = getattr(command, "commands", None)
    return [(name.split(), command)] if inside is None else [([name, part], of) for part, of in inside.items()]


def test_every_module_that_is_a_command_has_a_name():
    named = {command.module.removesuffix(".__main__") for command in COMMANDS.values()}
    assert named == {module for module in commands() if module != "matcher.command"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_summary_is_the_first_line_of_the_commands_own_help(name):
    command = get_command(importlib.import_module(COMMANDS[name].module).app)
    assert COMMANDS[name].summary == command.help.split("\n\n")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_it_can_read(name, tmp_path, monkeypatch):
    (tmp_path / "my-matcher").mkdir()
    monkeypatch.chdir(tmp_path)
    for words, command in parts(name):
        called, *arguments = shlex.split(command.epilog.removeprefix("Example: "))
        assert [called, *arguments[: len(words)]] == ["ernie-vil", *words]
        command.make_context(words[-1], arguments[len(words) :])


def test_the_help_lists_the_commands_and_imports_none_of_them():
    code = f"""
import sys
from typer.testing import CliRunner
from matcher.command import app
shown = CliRunner().invoke(app, ["--help"], catch_exceptions=False).output
assert all(name in shown for name in {list(COMMANDS)}), shown
avoided = {{"numpy", "pyarrow", "torch", "shards", "pipeline", "pretrain", "finetune"}}
imported = {{name.split(".")[0] for name in sys.modules}}
assert not imported & avoided, imported & avoided
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_commands_help_is_its_own():
    done = ernie_vil("inspect", "head", "--help", COLUMNS="80")
    assert done.returncode == 0
    assert "List the first images with their captions." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pars"], "error: No such command 'pars'. Did you mean 'parse'?"),
        (["inspect", "sumary"], "error: No such command 'sumary'. Did you mean 'summary'?"),
        (["parse", "--oot", "data"], "error: No such option: --oot; did you mean --out?"),
        (["parse", "--xyz", "red"], "error: No such option: --xyz; see python -m matcher.command parse --help"),
    ],
)
def test_what_is_misspelt_is_answered_in_one_line(arguments, message):
    done = ernie_vil(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message + "\n")


HELP = """
import json
from tests.commands_page import list_commands

print(json.dumps({
    words: command.make_context(words, [], resilient_parsing=True, terminal_width=40).get_help()
    for words, command in list_commands()
}))
"""


def test_the_help_of_every_command_can_be_read_in_40_columns():
    environment = os.environ | {"COLUMNS": "40", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", HELP], env=environment, capture_output=True, text=True, check=True)
    shown = json.loads(done.stdout)
    commands = dict(list_commands())
    assert shown.keys() == commands.keys()
    for words, text in shown.items():
        heads = [line.split("  ")[1] for line in text.splitlines() if line.startswith("  -")]
        for option in list_options(commands[words]):
            assert any(f" {option} " in f" {head} " for head in heads), f"{words} {option}"
        assert max(map(len, text.splitlines())) <= 40, words
        assert not set("\x1b│╭…") & set(text), words


@pytest.mark.parametrize("words", ["", "extract", "inspect"])
def test_piped_help_has_no_escape_sequences(words):
    assert "\x1b" not in ernie_vil(*words.split(), "--help").stdout


def test_the_version():
    done = ernie_vil("--version")
    assert done.stdout.startswith("ernie-vil-pytorch ")


def test_a_wrong_recipe_is_said_once_and_not_by_every_process():
    done = ernie_vil("pretrain", "--config", "tinny", "--devices", 2, "--shards", "s", "--out", "o")
    assert done.returncode == 1
    assert done.stderr == "error: --config tinny: neither a file nor the name of a recipe; did you mean tiny?\n"


@pytest.fixture
def options(tmp_path):
    """Of a run that could start."""
    runs = Runs(tmp_path, write_shards(tmp_path / "shards", [9]))
    return ["--config", tmp_path / "recipe.yaml", "--shards", runs.shards, "--out", tmp_path / "out"]


def test_several_devices_are_started_without_a_launcher_on_the_path(options):
    """What only the processes look at is said by each of them."""
    done = ernie_vil("pretrain", *options, "--devices=2", "--start", "nowhere", PATH="/usr/bin:/bin")
    assert done.returncode == 1
    assert done.stderr.count("error: nowhere: there is no such model or run") == 2


@pytest.mark.slow
def test_several_devices_train_together(options, tmp_path):
    done = ernie_vil("pretrain", *options, "--devices", 2, "--set", "steps=2", PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("exits successfully") == 2
    assert (tmp_path / "out/model/config.json").is_file()


def test_a_launched_command_shows_its_options_and_the_launchers():
    options = {option for part in load_command("finetune", []).params for option in part.opts}
    assert {"--config", "--out", "--devices", "--hostfile"} <= options


def test_a_hostfile_without_pdsh_is_answered_in_one_line(options, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("worker-1 slots=2\n")
    done = ernie_vil("pretrain", *options, "--hostfile", hosts, PATH=str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "pdsh, which is not installed" in done.stderr
