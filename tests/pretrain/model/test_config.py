import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from parsers.command import InputError
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL

MODELS = Path(__file__).parents[3] / "configs" / "model"
BASE = json.loads((MODELS / "base.json").read_text())


def load_changed(folder, remove=(), **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({key: value for key, value in (BASE | changes).items() if key not in remove}))
    return ModelConfig.load(path)


@pytest.mark.parametrize(
    ("name", "text_layers", "image_layers", "co_layers", "intermediate"),
    [("tiny", 4, 2, 2, 512), ("base", 12, 6, 6, 3072), ("large", 24, 6, 6, 4096)],
)
def test_shipped_sizes(name, text_layers, image_layers, co_layers, intermediate):
    config = ModelConfig.load(MODELS / f"{name}.json")
    assert config.num_text_layers == text_layers
    assert config.num_image_layers == image_layers
    assert config.num_co_layers == co_layers
    assert config.intermediate_size == intermediate


@pytest.mark.parametrize("name", ["tiny", "base", "large"])
def test_saved_and_loaded_again(name, tmp_path):
    config = ModelConfig.load(MODELS / f"{name}.json")
    config.save(tmp_path / "config.json")
    assert ModelConfig.load(tmp_path / "config.json") == config
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads((MODELS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["tiny", "base", "large"])
def test_parameters_are_counted(name):
    config = ModelConfig.load(MODELS / f"{name}.json")
    with torch.device("meta"):
        counted = sum(parameter.numel() for parameter in ErnieViL(config).parameters())
    assert config.parameters == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t_biattention_id": [1_000_000], "v_biattention_id": [0]}, "t_biattention_id.0: .*less than 1000"),
        ({"vocab_size": 10**9}, "an encoder of 768,[0-9,]* parameters; at most 10,000,000,000"),
        ({"v_feature_size": 10**400}, "v_feature_size: "),
        ({"hidden_size": 12 * 10**6}, "parameters; at most"),
        ({"v_intermediate_size": 2**31 - 1}, "parameters; at most"),
        ({"v_biattention_id": list(range(5000))}, "v_biattention_id"),
    ],
)
def test_sizes_that_ask_for_any_memory_are_one_short_error(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as error:
        load_changed(tmp_path, **changes)
    assert len(str(error.value)) < 1_000_000


def test_a_vocabulary_must_fit_the_table(tmp_path, capsys):
    config, path = load_changed(tmp_path), tmp_path / "vocab.txt"
    config.check_vocabulary(path, config.vocab_size)
    assert capsys.readouterr().out == ""
    config.check_vocabulary(path, config.vocab_size - 1)
    assert "rows for 30,522: the others are never used" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"vocab\.txt: holds 30,523 word pieces, but the model has rows for 30,522"):
        config.check_vocabulary(path, config.vocab_size + 1)


def test_released_file_needs_no_key_of_ours(tmp_path):
    assert load_changed(tmp_path, remove=["v_feature_size"]).v_feature_size == 2048


def test_keys_without_effect_may_be_absent(tmp_path):
    unused = [
        "num_hidden_layers",
        "type_vocab_size",
        "task_type_vocab_size",
        "co_intermediate_size",
        "class_attr_size",
    ]
    assert load_changed(tmp_path, remove=unused).num_text_layers == 12


def test_a_depth_that_the_layout_contradicts_has_no_effect(tmp_path, capsys):
    """As in the released code, which builds the layers that the layout names."""
    assert load_changed(tmp_path).num_text_layers == 12
    assert capsys.readouterr().out == ""
    assert load_changed(tmp_path, num_hidden_layers=6).num_text_layers == 12
    assert "num_hidden_layers 6 has no effect; t_biattention_id ends with 11, which makes 12" in capsys.readouterr().out


def test_configuration_is_frozen():
    with pytest.raises(ValidationError):
        ModelConfig.model_validate(BASE).hidden_size = 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"v_hiden_size": 8}, "v_hiden_size: unknown key; did you mean v_hidden_size?"),
        ({"flux": 8}, "flux: unknown key; remove it"),
        ({"hidden_size": 0}, "hidden_size: Input should be greater than or equal to 1, but it is 0"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob: Input should be less than 1"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob"),
        ({"initializer_range": 0}, "initializer_range"),
        ({"hidden_act": "relu"}, "hidden_act: Input should be 'gelu', but it is 'relu'"),
        ({"num_attention_heads": 7}, "hidden_size 768 does not divide into 7 heads; .* e.g. 770"),
        ({"v_num_attention_heads": 7}, "v_hidden_size 1024 does not divide into 7 heads"),
        ({"co_num_attention_heads": 7}, "co_hidden_size 1024 does not divide into 7 heads"),
        ({"t_biattention_id": [6, 7, 8, 9, 11, 10]}, "t_biattention_id .* does not increase"),
        ({"v_biattention_id": [0, 1, 2, 3, 4, 4]}, "v_biattention_id .* does not increase"),
        ({"v_biattention_id": [0, 1]}, "t_biattention_id has 6 entries and v_biattention_id 2"),
        ({"v_biattention_id": [], "t_biattention_id": []}, "t_biattention_id"),
        ({"v_biattention_id": [-1, 1, 2, 3, 4, 5]}, "v_biattention_id.0: .* greater than or equal to 0"),
    ],
)
def test_refused_with_a_message(changes, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        load_changed(tmp_path, **changes)
    assert str(tmp_path / "config.json") in str(error.value)


def test_every_wrong_key_is_named(tmp_path):
    with pytest.raises(InputError, match=r"(?s)vocab_size: missing; add it.*hidden_size: missing"):
        load_changed(tmp_path, remove=["vocab_size", "hidden_size"])


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_not_a_json_object(text, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match="not a valid model configuration"):
        ModelConfig.load(path)
