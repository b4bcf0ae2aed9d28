"""Weights in all their formats, and files that hold none."""

import math
import pickle

import pytest
import torch
from safetensors.torch import save_file

from parsers.command import InputError
from pipeline.detectors.visual_genome import VisualGenomeDetector
from pipeline.detectors.visual_genome.weights import load_visual_genome


def as_pickle(state, path):
    with path.open("wb") as stream:
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        pickle.dump({"model": arrays, "__author__": "someone", "matching_heuristics": True}, stream)


def without_counters(state, path):
    torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, path)


FORMATS = {
    "model.safetensors": lambda state, path: save_file(state, path),
    "pytorch_model.bin": lambda state, path: torch.save({"model": state}, path),
    "legacy.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "weights.pkl": as_pickle,
    "fewer.pth": without_counters,
}


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_read_from_every_format(state, tmp_path, name):
    path = tmp_path / name
    FORMATS[name](state, path)
    network, checksum = load_visual_genome(path.parent if name in ("model.safetensors", "pytorch_model.bin") else path)
    path.unlink()  # a quarter of a gigabyte
    assert len(checksum) == 64
    found = network.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert not network.training


def test_other_anchors_are_used_and_mentioned(state, tmp_path):
    name = "proposal_generator.anchor_generator.cell_anchors.0"
    torch.save(state | {name: state[name] + 8}, tmp_path / "x.pth")
    with pytest.warns(UserWarning, match="its anchors, which are used, are 8 px off"):
        network, _ = load_visual_genome(tmp_path / "x.pth")
    torch.testing.assert_close(network.state_dict()[name], state[name] + 8)


def test_weights_that_do_not_fit_are_listed(tmp_path):
    state = {
        "backbone.stem.conv1.weight": torch.zeros(64, 3, 3, 3),
        "backbone.stem.conv1.norm.bias": torch.full((64,), math.nan),
        "backbone.stem.conv1.norm.weight": "text",
        "fc.weight": torch.zeros(1),
    }
    torch.save(state, tmp_path / "x.bin")
    with pytest.raises(InputError) as error:
        load_visual_genome(tmp_path / "x.bin")
    for part in (
        "fc.weight: not a part of the network",
        "backbone.stem.conv1.weight: has shape (64, 3, 3, 3), expected (64, 3, 7, 7)",
        "backbone.stem.conv1.norm.bias: NaN or infinity",
        "backbone.stem.conv1.norm.weight: a str, not a tensor",
        "running_mean: missing",
        "(537 problems)",
    ):
        assert part in str(error.value)


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize("name", ["x.bin", "x.safetensors"])
@pytest.mark.parametrize("damage", ["empty", "text", "half", "hostile", "number"])
def test_files_that_hold_no_weights_are_refused(tmp_path, name, damage):
    path = tmp_path / name
    torch.save({"a": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"version https://git-lfs.github.com/spec/v1",
            "half": whole[: len(whole) // 2],
            "hostile": pickle.dumps({"model": Hostile()}),
            "number": pickle.dumps(3),
        }[damage]
    )
    with pytest.raises(InputError, match=name):
        load_visual_genome(path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds neither model.safetensors nor pytorch_model.bin"):
        load_visual_genome(tmp_path)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_without_a_network_there_is_advice(offline):
    with pytest.raises(InputError, match=r"fetch \S+/resolve/main/pytorch_model.bin elsewhere and give --weights"):
        VisualGenomeDetector()


def test_the_cache_of_the_hub_is_found(offline, weights, detector):
    folder = offline / "models--unc-nlp--frcnn-vg-finetuned"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (folder / "snapshots" / ("0" * 40) / "pytorch_model.bin").symlink_to(weights)
    assert VisualGenomeDetector().version == detector.version
