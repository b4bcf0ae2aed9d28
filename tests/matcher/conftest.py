"""A toy world as own photos and captions, and the command that trains a matcher in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.toyworld import ToyWorld, write_world
from pipeline.toyworld.network import CLASS_NAMES, build_network
from tests.conftest import ROOT

QUICK = """
import os, signal, sys
from importlib import import_module
from pathlib import Path

import matcher.training
matcher.training.FROM_NOTHING = Path(sys.argv[1])
sys.argv = sys.argv[1:]

def kill_at(place, count):
    module, _, names = place.partition(":")
    owner, _, name = f"module.{names}".rpartition(".")
    owner = eval(owner, {"module": import_module(module)})
    original, calls = getattr(owner, name), []
    def call(*arguments, **options):
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    setattr(owner, name, call)

if "KILL_AT" in os.environ:
    place, count = os.environ["KILL_AT"].split()
    kill_at(place, int(count))
from matcher.train import app
from parsers.command import run
run(app)
"""
"""The command with a short pretraining. KILL_AT is a function, and which of its calls kills the process."""
SHORT = ("--set", "steps=3", "--set", "batch_size=4", "--set", "checkpoint_every=2")


@dataclass(frozen=True)
class Own:
    """Own photos, captions and regions, and a detector with random weights."""

    photos: Path
    captions: Path
    regions: Path
    weights: Path
    recipe: Path

    def train(self, out, *arguments, code=0, kill_at=None):
        """Runs the command, and returns what it printed."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        environment |= {} if kill_at is None else {"KILL_AT": kill_at}
        command = [sys.executable, "-c", QUICK, self.recipe, self.photos, self.captions, "--out", out, *arguments]
        done = subprocess.run(list(map(str, command)), env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write_world(ToyWorld(images=12, seed=5, captions=2, things=(2, 3)), folder / "world", workers=1)
    world = json.loads((folder / "world/captions.json").read_text())
    names = {image["id"]: image["file_name"] for image in world["images"]}
    lines = [f'{names[row["image_id"]]},"{row["caption"]}"' for row in world["annotations"]]
    (folder / "captions.csv").write_text("\n".join(["file,caption", *lines, "sea.jpg,the sea"]) + "\n")
    torch.manual_seed(0)
    weights = folder / "detector.safetensors"
    save_file(build_network().state_dict(), weights, {"class_names": json.dumps(CLASS_NAMES)})
    recipe = (ROOT / "configs/pretrain/own.yaml").read_text().replace("../model/", f"{ROOT}/configs/model/")
    recipe = recipe.replace("steps: 1400", "steps: 3").replace("batch_size: 64", "batch_size: 8")
    (folder / "own.yaml").write_text(recipe.replace("checkpoint_every: 100", "checkpoint_every: 2"))
    return Own(folder / "world/images", folder / "captions.csv", folder / "world/regions", weights, folder / "own.yaml")
