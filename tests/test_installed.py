"""The project as people install it: a wheel, in an environment of its own, started from an empty folder."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from benchmarks.startup import PACKAGES

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (*PACKAGES, "configs")

QUICK_START = """
ernie-vil toyworld --num-images 40 --num-captions 2 --tasks --workers 1 --out toys
ernie-vil parse toys/captions.json --workers 1 --out graphs
ernie-vil regions toys/regions --class-names toys/class_names.txt --workers 1 --out regions
ernie-vil pack --graphs graphs --regions regions --tokenizer toys/vocab.txt --held-out-share 0.2 --workers 1 \
--out shards
ernie-vil inspect show shards/train 3
ernie-vil inspect verify shards/train --workers 1
ernie-vil plan --config tiny --shards shards/train --batches 2
ernie-vil pretrain --config demo --shards shards/train --set steps=2 --set batch_size=4 --out run
ernie-vil cloze --model run --held-out shards/val --most 5
ernie-vil finetune vqa --config toy --start run --data toys/tasks/vqa --regions regions --set epochs=null \
--set steps=2 --out vqa
ernie-vil predict vqa --model vqa --data toys/tasks/vqa --split val --regions regions --out vqa.json
ernie-vil evaluate vqa --predictions vqa.json --data toys/tasks/vqa --split val
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built of a copy, because building leaves folders behind."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    pip = [sys.executable, "-m", "pip", "--verbose", "wheel", "--no-deps", "--no-build-isolation", "-w", copy / "dist"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    built = subprocess.run([*pip, copy], env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = (copy / "dist").glob("*.whl")
    return path, built.stdout + built.stderr


def test_building_gives_no_warning(wheel):
    _, printed = wheel
    assert "warning" not in printed.lower()


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    path, _ = wheel
    files = (file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file())
    ours = {file.relative_to(ROOT).as_posix() for file in files if "__pycache__" not in file.parts}
    held = {name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name}
    assert held == ours


def test_every_package_says_that_it_is_typed():
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)


@pytest.mark.slow
def test_the_quick_start_works_from_an_empty_folder(wheel, tmp_path):
    path, _ = wheel
    venv.create(tmp_path / "venv", symlinks=True)
    (library,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    # The dependencies are those of this environment: none of its .pth files is read, so our checkout is not among them.
    (library / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = tmp_path / "venv/bin/python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", path], check=True
    )
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PATH": f"{python.parent}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    for line in QUICK_START.replace("\\\n", "").strip().splitlines():
        done = subprocess.run(shlex.split(line), cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    imported = subprocess.run(
        [python, "-c", "import pipeline; print(pipeline.__file__)"], cwd=folder, env=environment, capture_output=True
    )
    assert str(library) in imported.stdout.decode()
