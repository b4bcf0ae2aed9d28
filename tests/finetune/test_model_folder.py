"""Fine-tuned models as folders, and pretrained models to start from."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.heads import FineTunedModel
from finetune.model_folder import find_fine_tuned, load_fine_tuned, load_task, save_fine_tuned, start_task_from
from finetune.tasks.vcr import Vcr, VcrSettings
from finetune.tasks.vqa import Vqa, VqaSettings
from parsers.checksums import forget_checksums
from parsers.command import InputError
from pretrain.model.config import ModelConfig
from tests.finetune.worlds import write_model

CPU = torch.device("cpu")


@pytest.fixture
def task():
    return Vqa(VqaSettings(answers=("red", "blue"), hidden_size=8))


@pytest.fixture
def start(tmp_path):
    return write_model(tmp_path / "start")


@pytest.fixture
def model(task, start):
    config = ModelConfig.load(start / "config.json")
    return FineTunedModel(config, task.make_head(config))


@pytest.fixture
def folder(task, start, model, tmp_path):
    save_fine_tuned(model.state_dict(), model.ernie_vil.config, b"[PAD]\n", task, tmp_path / "tuned")
    return tmp_path / "tuned"


def test_a_model_is_loaded_as_it_was_saved(folder, task, model):
    again = load_task(folder, Vqa)
    assert again.settings == task.settings
    loaded = load_fine_tuned(folder, again, CPU)
    assert not loaded.training
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in model.state_dict().items())
    assert (folder / "vocab.txt").read_bytes() == b"[PAD]\n"


def test_the_best_model_of_a_run_comes_before_the_last(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(InputError, match="neither a fine-tuned model"):
        find_fine_tuned(run)
    (run / "model").symlink_to(folder)
    assert find_fine_tuned(run) == run / "model"
    (run / "best").symlink_to(folder)
    assert find_fine_tuned(run) == run / "best"
    assert find_fine_tuned(folder) == folder


def test_a_model_of_another_task_is_refused(folder):
    with pytest.raises(InputError, match="was fine-tuned on vqa, not on vcr"):
        load_task(folder, Vcr)


@pytest.mark.parametrize("record", ["[]", '{"task": "vqa"}', '{"task": "vqa", "settings": {"margin": 1}}'])
def test_a_damaged_record_is_refused(folder, record):
    forget_checksums(folder)
    (folder / "task.json").write_text(record)
    with pytest.raises(InputError, match=r"task\.json: is not the record of a task"):
        load_task(folder, Vqa)


def test_a_damaged_task_is_found(folder):
    path = folder / "task.json"
    path.write_text(path.read_text().replace("blue", "glue"))
    with pytest.raises(InputError, match=r"task\.json: differs from its checksum"):
        load_task(folder, Vqa)


def test_weights_that_do_not_fit_are_refused(folder):
    record = json.loads((folder / "task.json").read_text())
    record["settings"]["answers"].append("green")
    forget_checksums(folder)
    (folder / "task.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"head\.output\.weight, head\.output\.bias are missing"):
        load_fine_tuned(folder, load_task(folder, Vqa), CPU)


def test_a_model_starts_from_a_pretrained_encoder_with_a_random_head(start, model):
    before = model.head.output.weight.clone()
    assert set(start_task_from(start, model)) == {f"head.{name}" for name, _ in model.head.named_parameters()}
    expected = load_file(start / "model.safetensors")
    assert torch.equal(model.ernie_vil.text_pooler.weight, expected["ernie_vil.text_pooler.weight"])
    assert torch.equal(model.head.output.weight, before)


def test_a_model_starts_from_a_fine_tuned_head_as_far_as_it_fits(folder, task, start):
    config = ModelConfig.load(start / "config.json")
    assert start_task_from(folder, FineTunedModel(config, task.make_head(config))) == []
    more = Vqa(VqaSettings(answers=("red", "blue", "green"), hidden_size=8))
    assert start_task_from(folder, FineTunedModel(config, more.make_head(config))) == [
        "head.output.weight",
        "head.output.bias",
    ]


def test_an_encoder_that_lacks_a_parameter_is_no_start(start, model):
    path = start / "model.safetensors"
    weights = load_file(path)
    del weights["ernie_vil.text_pooler.weight"]
    forget_checksums(start)
    save_file(weights, path)
    with pytest.raises(InputError, match=r"ernie_vil\.text_pooler\.weight"):
        start_task_from(start, model)


def test_settings_of_a_task_are_kept(start, tmp_path):
    config = ModelConfig.load(start / "config.json")
    task = Vcr(VcrSettings(parts=("answer",), names=("Ann", "Bo")))
    model = FineTunedModel(config, task.make_head(config))
    save_fine_tuned(model.state_dict(), config, b"", task, tmp_path / "vcr")
    assert load_task(tmp_path / "vcr", Vcr).settings == task.settings
