"""Files of weights, and loading them into a model."""

import pytest
import torch
from torch import nn

from parsers.command import InputError
from shards.storage.weights import load_weights, read_weights, read_weights_metadata, start_from_weights, write_weights


@pytest.fixture
def model():
    return nn.ModuleDict({"encoder": nn.Linear(2, 3), "head": nn.Linear(3, 4)})


def test_weights_are_written_and_read_again(tmp_path):
    weights = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.float16)}
    write_weights(weights, tmp_path / "w.safetensors", {"record": "x"})
    found = read_weights(tmp_path / "w.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert read_weights_metadata(tmp_path / "w.safetensors") == {"record": "x"}
    write_weights(weights, tmp_path / "w.safetensors")
    assert read_weights_metadata(tmp_path / "w.safetensors") == {"format": "pt"}
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("content", [None, b"", b"no weights at all"])
def test_what_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    for read in (read_weights, read_weights_metadata):
        with pytest.raises(InputError, match=r"w\.safetensors: cannot be loaded"):
            read(path)


def test_a_model_needs_exactly_its_parameters(model, tmp_path):
    weights = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    load_weights(model, weights, tmp_path)
    assert not any(tensor.any() for tensor in model.state_dict().values())
    for changes, message in (
        ({"encoder.bias": torch.ones(9)}, "encoder.bias is missing, unknown or of another shape"),
        ({"more": torch.ones(1)}, "more is missing"),
        ({f"more {n}": torch.ones(1) for n in range(7)}, "more 4 and 2 more are missing"),
    ):
        with pytest.raises(InputError, match=message):
            load_weights(model, weights | {"head.bias": torch.ones(4)} | changes, tmp_path)
    assert not any(tensor.any() for tensor in model.state_dict().values()), "all or nothing"


def test_a_head_may_be_another_and_an_encoder_may_not(model, tmp_path):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = {
        "encoder.weight": torch.ones(3, 2),
        "encoder.bias": torch.ones(3),
        "head.bias": torch.ones(5),
        "x": before["head.bias"],
    }
    kept = start_from_weights(model, weights, tmp_path, required="encoder.", advice="")
    assert kept == ["head.weight", "head.bias"]
    assert model["encoder"].weight.all()
    assert torch.equal(model["head"].bias, before["head.bias"])
    with pytest.raises(InputError, match=r"encoder\.bias is missing or of another shape; take another"):
        start_from_weights(
            model, {"encoder.weight": torch.ones(3, 2)}, tmp_path, required="encoder.", advice="take another"
        )
