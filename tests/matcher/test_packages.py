"""Packages of other software with the names of ours are noticed before anything is imported from them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from matcher.packages import PACKAGES

ROOT = Path(__file__).resolve().parents[2]


def start(path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "matcher.command", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        cwd="/", capture_output=True, text=True,
    )  # fmt: skip


def write_distribution(folder, name, files):
    """Files as pip leaves them, with the list that it keeps."""
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def test_no_package_is_foreign_here():
    done = start([ROOT], "--version")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_foreign_package_before_ours_is_named_with_its_owner(tmp_path, name):
    write_distribution(tmp_path, f"the-{name}-tool", {f"{name}/__init__.py": "raise SystemExit('imported')\n"})
    done = start([tmp_path, ROOT], "--version")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    place = tmp_path / name / "__init__.py"
    assert done.stderr.startswith(f"error: {place} of the-{name}-tool hides the package {name} of ernie-vil-pytorch; ")
    assert f"pip uninstall the-{name}-tool && pip install --force-reinstall --no-deps ernie-vil-pytorch" in done.stderr


def test_a_module_of_the_same_name_is_named(tmp_path):
    (tmp_path / "shards.py").write_text("")
    done = start([tmp_path, ROOT], "--version")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: {tmp_path / 'shards.py'} hides the package shards of ernie-vil-pytorch; rename"
    )


@pytest.mark.slow
def test_a_foreign_package_that_overwrote_ours_is_named(tmp_path):
    """Both lie in one folder: only what pip noted tells them apart."""
    source = shutil.copytree(ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "tests", "data", "runs"))
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
    subprocess.run([*pip, source], check=True)
    assert start([site], "--version").returncode == 0
    write_distribution(site, "pipes", {"pipeline/__init__.py": "class Pipeline: ...\n"})
    done = start([site], "--version")
    assert done.returncode == 1
    assert f"{site / 'pipeline/__init__.py'} of pipes hides the package pipeline of ernie-vil-pytorch" in done.stderr
