"""Model folders: written so that an interrupted export does not look complete, and read again."""

import random

import pytest
import torch

from parsers.checksums import forget_checksums
from parsers.command import InputError
from pretrain.model import folder as module
from pretrain.model.folder import export, load_model, model_folder
from pretrain.model.heads import ErnieViLForPreTraining
from shards.vocabulary import read_vocabulary
from tests.pretrain.model.models import SHALLOW, randomized, small

WORDS = b"[PAD]\n[UNK]\n"
SPECIAL = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"


@pytest.fixture
def model():
    return randomized(ErnieViLForPreTraining(small(**SHALLOW)))


def test_a_model_is_written_and_read_again(model, tmp_path):
    export(model.state_dict(), model.ernie_vil.config, WORDS, tmp_path / "run/model")
    assert sorted(path.name for path in (tmp_path / "run/model").iterdir()) == [
        "checksums.json", "config.json", "model.safetensors", "vocab.txt",
    ]  # fmt: skip
    again = load_model(model_folder(tmp_path / "run"))
    assert not again.training
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert model_folder(tmp_path / "run/model") == tmp_path / "run/model"


@pytest.mark.parametrize("function", ["write_atomic", "write_weights"])
def test_an_interrupted_export_is_no_model(model, tmp_path, monkeypatch, function):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, function, interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(model.state_dict(), model.ernie_vil.config, WORDS, tmp_path / "model")
    with pytest.raises(InputError, match="neither a model"):
        model_folder(tmp_path)


def test_weights_of_another_model_are_refused(model, tmp_path):
    export(model.state_dict(), model.ernie_vil.config, WORDS, tmp_path)
    forget_checksums(tmp_path)
    small(**SHALLOW, class_size=9).save(tmp_path / "config.json")
    with pytest.raises(InputError, match=r"model\.safetensors: does not fit the model: heads\.region\.output\.weight"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_any_flipped_bit_in_a_model_is_found(model, tmp_path, name):
    export(model.state_dict(), model.ernie_vil.config, SPECIAL, tmp_path)
    path = tmp_path / name
    sound = path.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(sound)), 30):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="differs from its checksum"):
            load_model(tmp_path), read_vocabulary(tmp_path / "vocab.txt")


def test_a_model_of_an_earlier_release_is_read(model, tmp_path):
    export(model.state_dict(), model.ernie_vil.config, WORDS, tmp_path)
    (tmp_path / "checksums.json").unlink()
    load_model(tmp_path)


def test_a_model_may_be_written_over_another(model, tmp_path):
    export(model.state_dict(), model.ernie_vil.config, WORDS, tmp_path)
    other = randomized(ErnieViLForPreTraining(small(**SHALLOW)), seed=1)
    export(other.state_dict(), other.ernie_vil.config, SPECIAL, tmp_path)
    load_model(tmp_path)
