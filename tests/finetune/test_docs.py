"""The task of docs/tasks.md, as it stands there."""

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from finetune import tasks
from finetune.data import TaskFiles
from finetune.model_folder import load_fine_tuned, load_task, save_fine_tuned
from finetune.training.finetuning import FineTuning
from finetune.training.recipe import FineTuneRecipe
from parsers.command import InputError
from pretrain.training.distributed import DistributedContext
from tests.finetune.worlds import COLOURS, grid, learn, regions_folder, write_model

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/tasks.md"


def block(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[-1]


@pytest.fixture
def task_type(monkeypatch):
    module = types.ModuleType("snli_ve")
    monkeypatch.setitem(sys.modules, "snli_ve", module)  # where dataclasses look their annotations up
    exec(compile(block("python"), "docs/tasks.md", "exec"), module.__dict__)
    monkeypatch.setitem(tasks.TASKS, module.SnliVe.name, "snli_ve:SnliVe")
    return module.SnliVe


def test_the_sixth_task_learns_predicts_and_is_scored(task_type, tmp_path):
    start = write_model(
        tmp_path / "model", hidden_size=16, v_hidden_size=16, co_hidden_size=24, co_num_attention_heads=2
    )
    regions = regions_folder(tmp_path / "regions", {str(i): grid(2) for i in range(6)})
    labels = ("contradiction", "neutral", "entailment")
    lines = [
        {
            "pairID": str(i),
            "Flickr30K_ID": str(i % 6),
            "sentence2": f"the {COLOURS[i % 3]} dog",
            "gold_label": labels[i % 3],
        }
        for i in range(12)
    ]
    (tmp_path / "snli_ve_train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    values = yaml.safe_load(block("yaml")) | {"epochs": 100, "batch_size": 6, "task": {"max_text": 8}}
    values["optimizer"] |= {"learning_rate": 5e-3, "warmup_steps": 10, "layer_decay": 1.0}
    recipe = FineTuneRecipe.for_task(task_type.settings_type).model_validate(values)
    task = task_type(recipe.task)
    split = TaskFiles(tmp_path, [regions]).open(task, ["train"], start)
    workload = FineTuning(task, recipe, start, split, split)
    learn(workload, 200)
    world = DistributedContext(0, 1, torch.device("cpu"))
    assert workload.evaluate(workload.model.eval(), world) == {"dev/accuracy": 1.0}

    save_fine_tuned(
        workload.model.state_dict(), workload.config, (start / "vocab.txt").read_bytes(), task, tmp_path / "tuned"
    )
    again = load_task(tmp_path / "tuned", task_type)
    model = load_fine_tuned(tmp_path / "tuned", again, world.device)
    predictions = again.infer(model, split, batch_size=5, world=world)
    again.write(predictions, tmp_path / "out.json")
    assert again.evaluate(again.read_predictions(tmp_path / "out.json"), split.examples) == {"accuracy": 1.0}
    assert np.array_equal([p["pair_id"] for p in predictions], [e.pair_id for e in split.examples])
    with pytest.raises(InputError, match="not those of the 12 hypotheses"):
        again.evaluate(predictions[1:], split.examples)
    (tmp_path / "snli_ve_dev.jsonl").write_text('{"pairID": 1}\n')
    with pytest.raises(InputError, match="is not a file of SNLI-VE"):
        again.read(tmp_path, "dev")
