"""The detectors' operators are torchvision's compiled ones: torch and torchvision must be built for each other."""

import os
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement
from PIL import Image
from torchvision.ops import nms, roi_align, roi_pool

ROOT = Path(__file__).parents[3]


def test_compiled_operators_are_there():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [5, 5, 30, 30]])
    assert nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    whole = torch.tensor([[0.0, 0, 0, 3, 3]])
    assert roi_pool(maps, whole, 2).tolist() == [[[[5, 7], [13, 15]]]]
    assert roi_align(maps, whole, 1, sampling_ratio=3).item() == 7.5


def test_what_setup_installs_is_a_pair():
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert {name: version(name).partition("+")[0] for name in ("torch", "torchvision")} == {
        name: pinned[name] for name in ("torch", "torchvision")
    }
    (wanted,) = (need for need in map(Requirement, requires("torchvision")) if need.name == "torch")
    assert wanted.specifier.contains(pinned["torch"])


def test_a_pair_that_does_not_match_is_named(tmp_path):
    """As where a torch for the CPU stands beside PyPI's torchvision, which is built for CUDA."""
    (tmp_path / "torchvision").mkdir()
    broken = 'raise RuntimeError("operator torchvision::nms does not exist")\n'
    (tmp_path / "torchvision/__init__.py").write_text(broken)
    line = [sys.executable, "-m", "pipeline.extract", "pictures", "--detector", "vg-bottom-up", "--out", "out"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "pictures/a.png")
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "operator torchvision::nms does not exist" in done.stderr
    assert "built for the installed torch" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
