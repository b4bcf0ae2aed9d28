import json
import math
import zlib
from functools import cache

import numpy as np
import pytest
import torch

from pipeline.detectors.visual_genome import VisualGenomeDetector
from pipeline.detectors.visual_genome.proposals import cell_anchors
from tests.pipeline.detectors.visual_genome.tolerances import CASES, changed, rgb


@pytest.fixture(scope="session")
def reference(shared):
    folder = shared / "parity" / "vg_detector"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def state(reference):
    """All tensors, each generated from its own name."""
    overrides = np.load(reference / "overrides.npz")
    gains = {
        "objectness_logits": 4,
        "anchor_deltas": 0.5,
        "cls_score": 24,
        "bbox_pred": 1.5,
        "attr_score": 16,
        "conv3": 0.1,
    }

    def value(name, shape):
        module, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked":
            return np.zeros(shape, np.int64)
        if "cell_anchors" in name:
            return cell_anchors().numpy()
        if name in overrides:
            return overrides[name]
        key = zlib.crc32(name.encode())
        normal = np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)
        if kind == "running_var":
            return 1 + np.float32(0.1) * np.abs(normal)
        if module.endswith(".norm") and kind == "weight":
            return 1 + np.float32(0.1) * normal
        if kind in ("running_mean", "bias"):
            return np.float32(0.1) * normal
        if module.endswith("cls_embedding"):
            return normal
        gain = 1 / 16 if module == "backbone.stem.conv1" else gains.get(module.rpartition(".")[2], 1)
        return normal * np.float32(gain / math.sqrt(math.prod(shape[1:])))

    names = json.loads((reference / "keys.json").read_text())
    return {name: torch.from_numpy(np.asarray(value(name, shape))) for name, (shape, _) in names.items()}


@pytest.fixture(scope="session")
def weights(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "pytorch_model.bin"
    torch.save(state, path)
    return str(path)


@pytest.fixture(scope="session")
def detector(weights):
    return VisualGenomeDetector(weights)


@pytest.fixture(scope="session")
def small(detector):
    """It is quick, for it looks at small pictures, which have few proposals."""
    return changed(detector, min_boxes=0, min_size=16, max_size=64)


@pytest.fixture(scope="session")
def trace(reference, detector):
    """The expected arrays of a case, the detector, the picture and what the network says of it."""

    @cache
    def run(case):
        file, min_size, max_size = CASES[case]
        ours = changed(detector, min_size=min_size, max_size=max_size)
        picture = ours.prepare(rgb(reference / file))
        with np.load(reference / f"{case}.npz") as expected:
            return dict(expected), ours, picture, ours.describe(picture)

    return run


@pytest.fixture(scope="session")
def units(reference):
    with np.load(reference / "units.npz") as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
