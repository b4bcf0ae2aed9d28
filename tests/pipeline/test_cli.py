import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pipeline.pack.__main__ as pack
import pipeline.parse.__main__ as parse
import pipeline.regions.__main__ as regions
from parsers.command import InputError

ROOT = Path(__file__).parents[2]
APPS = {"parse": parse.app, "regions": regions.app, "pack": pack.app}


def plain(text):
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize("name", list(APPS))
def test_help_has_an_example(name):
    result = CliRunner().invoke(APPS[name], ["--help"])
    assert result.exit_code == 0
    assert f"Example: ernie-vil {name}" in plain(result.output)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("parse", []),
        ("parse", ["a.json"]),
        ("parse", ["a.json", "--out", "x", "--format", "xml"]),
        ("parse", ["a.json", "--out", "x", "--workers", "0"]),
        ("regions", ["a.tsv", "--out", "x", "--format", "jsonl"]),
        ("regions", ["a.tsv", "--out", "x", "--max-rejects", "2"]),
        ("pack", ["--out", "x"]),
        ("pack", ["--graphs", "g", "--regions", "r", "--tokenizer", "v", "--out", "x", "--held-out-share", "1"]),
    ],
)
def test_wrong_usage_exits_with_2(name, arguments):
    assert CliRunner().invoke(APPS[name], arguments).exit_code == 2


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("parse", ["missing.json", "--out", "x"], "missing.json"),
        ("parse", ["missing.json", "--out", "x", "--format", "coco"], "missing.json"),
        ("regions", ["missing.tsv", "--out", "x"], "missing.tsv"),
        ("pack", ["--graphs", "g", "--regions", "r", "--tokenizer", "v.txt", "--out", "x"], "v.txt"),
    ],
)
def test_missing_input_is_an_input_error_that_names_it(tmp_path, monkeypatch, name, arguments, named):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(APPS[name], arguments)
    assert isinstance(result.exception, InputError)
    assert named in str(result.exception)
    assert not (tmp_path / "x" / "report.json").exists()


def test_an_unknown_parser_is_an_input_error_that_names_the_installed_ones(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"image_id": "1", "caption": "a bear"}\n')
    result = CliRunner().invoke(parse.app, [str(path), "--out", str(tmp_path / "x"), "--parser", "nobody"])
    assert isinstance(result.exception, InputError)
    assert "'nobody'" in str(result.exception)


def test_bad_input_ends_the_command_with_1_and_a_message_but_no_traceback(tmp_path):
    path = tmp_path / "a[b].tsv"
    path.write_text("no features\n")
    command = [sys.executable, "-m", "pipeline.regions", str(path), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {path}: format not recognised")
    assert "Traceback" not in result.stderr


def run_module(*arguments):
    return subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)


def test_a_run_that_failed_at_once_leaves_its_folder_free(tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "good.jsonl").write_text('{"image_id": "1", "caption": "a dog"}\n')
    options = ["--out", tmp_path / "graphs", "--workers", "1"]
    assert run_module("pipeline.parse", tmp_path / "bad.json", *options).returncode == 1
    done = run_module("pipeline.parse", tmp_path / "good.jsonl", *options)
    assert done.returncode == 0, done.stderr


def test_an_output_folder_that_holds_an_input_is_refused(tmp_path):
    source = tmp_path / "good.jsonl"
    source.write_text('{"image_id": "1", "caption": "a dog"}\n')
    done = run_module("pipeline.parse", source, "--out", tmp_path, "--overwrite")
    assert done.returncode == 1
    assert "holds an input" in done.stderr
    assert source.exists()
