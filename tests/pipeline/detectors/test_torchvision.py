"""The detectors' operators are torchvision's compiled ones: torch and torchvision must be built for each other."""

import json
import os
import subprocess
import sys
from importlib.metadata import requires, version

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image
from safetensors.torch import save_file
from torchvision.ops import nms, roi_align, roi_pool

from pipeline import detectors
from tests.pipeline.extract.pictures import ROOT, noise


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


def test_settings_of_the_weights_are_part_of_the_version(tmp_path):
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    state = detectors.get(name, weights="random")._network.state_dict()
    versions = []
    for number, metadata in enumerate(({}, {"settings": '{"min_size": 64}'})):
        path = tmp_path / f"{number}.safetensors"
        save_file({key: value.bfloat16() for key, value in state.items()}, path, metadata)
        versions.append(detectors.get(name, weights=str(path)).version)
    assert versions[0] != versions[1]


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """torchvision's smallest model with weights of a file, made to look at small pictures."""
    path = tmp_path_factory.mktemp("mobile") / "weights.safetensors"
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    network = detectors.get(name, weights="random", seed=3)._network
    metadata = {"class_names": json.dumps(["none", *map(str, range(90))]), "settings": '{"min_size": 64}'}
    save_file(network.state_dict(), path, metadata)
    return detectors.get(name, weights=str(path), min_boxes=4, max_boxes=8)


def test_torchvision_models_load_from_a_file_with_its_names_and_settings(mobile):
    assert mobile.class_names[:2] == ("none", "0")
    assert mobile.feature_size == 1024
    (found,) = mobile.detect([np.asarray(noise(0, (96, 64)))])
    assert found.features.shape == (len(found.boxes), 1024)
    assert 4 <= len(found.boxes) <= 8
    assert np.allclose(found.class_probs.sum(1), 1, atol=1e-5)


def test_images_of_different_sizes_give_what_each_gives_alone(mobile):
    pictures = [np.asarray(noise(number, size)) for number, size in enumerate([(96, 64), (64, 80), (96, 64)])]
    for found, picture in zip(mobile.detect(pictures), pictures, strict=True):
        (alone,) = mobile.detect([picture])
        assert np.allclose(found.boxes, alone.boxes, atol=1e-3)
        assert np.allclose(found.features, alone.features, atol=1e-4)
        assert np.allclose(found.class_probs, alone.class_probs, atol=1e-5)


def test_given_boxes_keep_their_order_and_features(mobile):
    picture = np.asarray(noise(0, (96, 64)))
    (found,) = mobile.detect([picture])
    (described,) = mobile.detect([picture], [found.boxes[::-1].copy()])
    assert np.array_equal(described.boxes, found.boxes[::-1])
    assert np.allclose(described.features, found.features[::-1], atol=1e-4)
