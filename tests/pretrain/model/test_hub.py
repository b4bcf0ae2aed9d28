"""Models saved for people and loaded again."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from parsers.checksums import forget_checksums
from parsers.command import InputError
from pretrain.model.encoder import ErnieViL
from tests.models import SMALL as CONFIG


@pytest.fixture
def saved(tmp_path):
    model = ErnieViL(CONFIG)
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


def test_a_model_is_saved_and_loaded(saved):
    model, folder = saved
    again = ErnieViL.from_pretrained(folder)
    assert again.config == CONFIG
    assert not again.training
    assert all((a == b).all() for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 8
    assert "ernie-vil-pytorch" in (folder / "README.md").read_text()


def test_heads_in_the_file_are_left_out_and_missing_weights_are_named(saved):
    _, folder = saved
    weights = load_file(folder / "model.safetensors")
    forget_checksums(folder)
    save_file(weights | {"heads.match.output.weight": torch.zeros(1, 6)}, folder / "model.safetensors")
    ErnieViL.from_pretrained(str(folder))
    del weights["ernie_vil.text_pooler.bias"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"text_pooler\.bias"):
        ErnieViL.from_pretrained(folder)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        ErnieViL.from_pretrained(tmp_path)


def test_models_go_to_the_hub(saved, monkeypatch):
    model, _ = saved
    sent = {}

    class Api:
        def __init__(self, *_args, **_kwargs):
            pass

        def create_repo(self, repo_id, **_kwargs):
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **_kwargs):
            sent[repo_id] = {path.name for path in Path(folder_path).iterdir()}

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    model.push_to_hub("someone/ernie-vil-tiny")
    assert sent == {"someone/ernie-vil-tiny": {"checksums.json", "config.json", "model.safetensors", "README.md"}}
