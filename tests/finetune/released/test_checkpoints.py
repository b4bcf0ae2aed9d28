"""Released checkpoints in and out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from finetune.heads import RetrievalHead
from finetune.released.checkpoints import export_released, import_released
from finetune.released.paddle_files import read_variable, write_variable
from parsers.checksums import forget_checksums
from parsers.command import InputError
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL
from pretrain.model.released_names import load_released, released_shapes
from tests.finetune.conftest import RELEASED_HEAD as HEAD
from tests.models import SMALL as CONFIG

PARITY = Path(__file__).resolve().parents[4] / "shared/parity"
needs_parity = pytest.mark.skipif(not PARITY.exists(), reason="the released numbers are not here")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_there_and_back_is_the_same_byte_for_byte(released_checkpoint, tmp_path):
    record = import_released(released_checkpoint, CONFIG, tmp_path / "ours", vocabulary=None, allow_missing=False)
    assert record["parameters"] == len(released_shapes(CONFIG))
    assert set(record["head"]) == set(HEAD)
    assert len(record["skipped"]) == len(released_shapes(CONFIG)) + len(HEAD) + 2
    count = export_released(tmp_path / "ours", tmp_path / "back", combined=False)
    expected = {name: content for name, content in files(released_checkpoint).items() if name not in record["skipped"]}
    assert count == len(expected)
    assert files(tmp_path / "back") == expected
    # Through the combined file, which has no names.
    export_released(tmp_path / "ours", tmp_path / "combined", combined=True)
    assert [path.name for path in (tmp_path / "combined").iterdir()] == ["__all__"]
    import_released(tmp_path / "combined", CONFIG, tmp_path / "again", vocabulary=None, allow_missing=False)
    ours, again = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "again"))
    assert ours.keys() == again.keys()
    assert all((ours[name] == again[name]).all() for name in ours)


def test_the_head_fits_its_task(released_checkpoint, tmp_path):
    import_released(released_checkpoint, CONFIG, tmp_path / "ours", vocabulary=None, allow_missing=False)
    tensors = load_file(tmp_path / "ours/model.safetensors")
    head = RetrievalHead(CONFIG)
    head.load_state_dict({n.removeprefix("head."): torch.from_numpy(t) for n, t in tensors.items() if "head." in n})
    assert (head.match.output.weight.detach().numpy() == read_variable(released_checkpoint / "match_fc.w_0").T).all()
    assert ErnieViL.from_pretrained(tmp_path / "ours").config == CONFIG


def test_a_head_of_another_kind_is_not_exported(released_checkpoint, tmp_path):
    import_released(released_checkpoint, CONFIG, tmp_path / "ours", vocabulary=None, allow_missing=False)
    path = tmp_path / "ours/model.safetensors"
    save_file(load_file(path) | {"head.extra.weight": np.zeros(2, np.float32)}, path)
    forget_checksums(path.parent)
    with pytest.raises(InputError, match=r"extra\.weight.* not the head of a released task"):
        export_released(tmp_path / "ours", tmp_path / "back", combined=False)
    assert not (tmp_path / "back").exists()


def test_a_released_configuration_does_not_say_how_long_features_are(released_checkpoint, tmp_path):
    (tmp_path / "config.json").write_text(CONFIG.model_dump_json(exclude={"v_feature_size"}, exclude_none=True))
    config = ModelConfig.load(tmp_path / "config.json")
    import_released(released_checkpoint, config, tmp_path / "ours", vocabulary=None, allow_missing=False)
    assert ModelConfig.load(tmp_path / "ours/config.json").v_feature_size == 6


def test_missing_parameters_are_named_and_need_permission(released_checkpoint, tmp_path):
    for name in ("pooled_fc_text.w_0", "encoder_layer_0_ffn_fc_0.b_0"):
        (released_checkpoint / name).unlink()
    with pytest.raises(InputError, match=r"lacks 2 parameters.*encoder_layer_0_ffn_fc_0\.b_0, pooled_fc_text\.w_0"):
        import_released(released_checkpoint, CONFIG, tmp_path / "ours", vocabulary=None, allow_missing=False)
    assert not (tmp_path / "ours").exists()
    record = import_released(released_checkpoint, CONFIG, tmp_path / "ours", vocabulary=None, allow_missing=True)
    assert record["untouched"] == ["encoder_layer_0_ffn_fc_0.b_0", "pooled_fc_text.w_0"]
    export_released(tmp_path / "ours", tmp_path / "back", combined=False)
    assert not (tmp_path / "back/pooled_fc_text.w_0").exists(), "random values are not passed off as released ones"


def change(path, function):
    array = function(read_variable(path))
    with path.open("wb") as stream:
        write_variable(stream, array)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: change(f / "word_embedding", lambda a: a.astype(np.float64)), "word_embedding is float64"),
        (lambda f: change(f / "image_loc.w_0", lambda a: a.T), r"image_loc\.w_0: the model needs shape \(5, 4\)"),
        (lambda f: (f / "word_embedding").rename(f / "word_embeddings"), "lacks 1 parameter .*word_embedding"),
        (lambda f: (f / "stranger").write_bytes((f / "word_embedding").read_bytes()), "stranger"),
        (lambda f: (f / "match_fc.b_0").unlink(), r"match_fc\.w_0 are not the head of one task"),
        (lambda f: (f / "folder").mkdir(), "not a plain file"),
        (lambda f: (f / "link").symlink_to("/etc/passwd"), "not a plain file"),
        (lambda f: (f / "image_emb.b_0").write_bytes(b"\x80\x04."), "not a Paddle variable"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(released_checkpoint, tmp_path, spoil, message):
    spoil(released_checkpoint)
    with pytest.raises(InputError, match=message):
        import_released(released_checkpoint, CONFIG, tmp_path / "ours", vocabulary=None, allow_missing=False)
    assert not (tmp_path / "ours").exists()


def test_another_configuration_is_refused(released_checkpoint, tmp_path):
    wider = CONFIG.model_copy(update={"v_hidden_size": 8})
    with pytest.raises(InputError, match=r"image_emb\.w_0: the model needs shape \(6, 8\)"):
        import_released(released_checkpoint, wider, tmp_path / "ours", vocabulary=None, allow_missing=False)


@needs_parity
@pytest.mark.parametrize(
    ("source", "config"),
    [
        ("forward_vqa/params_file_per_var", "tiny_config.json"),
        ("forward_vqa/params_combined", "tiny_config.json"),
        ("forward_vcr/params_file_per_var", "tiny_config.json"),
        ("train_vqa/checkpoint_file_per_var", "tiny_config_nodrop.json"),
    ],
)
def test_released_files_go_in_and_come_out_the_same(tmp_path, source, config):
    folder = PARITY / source
    config = ModelConfig.load(PARITY / config)
    record = import_released(folder, config, tmp_path / "ours", vocabulary=None, allow_missing=False)
    combined = (folder / "__all__").exists()
    export_released(tmp_path / "ours", tmp_path / "back", combined=combined)
    assert files(tmp_path / "back") == {n: c for n, c in files(folder).items() if n not in record["skipped"]}


@needs_parity
@pytest.mark.parametrize(
    "source", ["forward_vqa/params_file_per_var", "forward_vqa/params_combined", "forward_vcr/params_file_per_var"]
)
def test_imported_parameters_are_those_of_the_forward_fixtures(tmp_path, source):
    """So the parity of every layer with these parameters holds for an imported model too."""
    config = ModelConfig.load(PARITY / "tiny_config.json")
    import_released(PARITY / source, config, tmp_path / "ours", vocabulary=None, allow_missing=False)
    imported = ErnieViL.from_pretrained(tmp_path / "ours")
    expected = ErnieViL(imported.config)
    with np.load((PARITY / source).parent / "params.npz") as params:
        load_released(expected, params)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(imported.state_dict()[name], tensor, rtol=0, atol=0)
