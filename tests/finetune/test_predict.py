"""Predictions: which models may predict together."""

import pytest
import torch
from typer.testing import CliRunner

from finetune.heads import FineTunedModel
from finetune.model_folder import save_fine_tuned
from finetune.predict import app
from finetune.tasks.vcr import Vcr, VcrSettings
from pretrain.model.config import ModelConfig
from tests.finetune.worlds import grid, regions_folder, write_model, write_vcr


@pytest.mark.parametrize("task", ["vqa", "retrieval", "refcoco_plus"])
def test_several_models_are_for_tasks_with_parts(tmp_path, task):
    command = [task, "--model", "a", "--model", "b", "--data", str(tmp_path), "--split", "val"]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "has no parts for several models" in " ".join(result.output.replace("│", " ").split())


def test_two_models_of_vcr_fill_one_file(tmp_path):
    start = write_model(tmp_path / "start")
    config = ModelConfig.load(start / "config.json")
    regions = regions_folder(tmp_path / "regions", {f"train-{image}": grid(3) for image in range(3)})
    folders = []
    for part in ("answer", "rationale"):
        task = Vcr(VcrSettings(parts=(part,), max_text=20, max_rationale_text=24))
        torch.manual_seed(0)
        model = FineTunedModel(config, task.make_head(config))
        save_fine_tuned(model.state_dict(), config, (start / "vocab.txt").read_bytes(), task, tmp_path / part)
        folders += ["--model", str(tmp_path / part)]
    data = ["--data", str(write_vcr(tmp_path / "vcr", questions=2)), "--split", "train", "--regions", str(regions)]
    result = CliRunner().invoke(app, ["vcr", *folders, *data, "--out", str(tmp_path / "out.csv")])
    assert result.exit_code == 0, result.output
    header, *rows = (line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines())
    filled = [{name for name, cell in zip(header, row, strict=True) if cell} for row in rows]
    for number, names in enumerate(filled):  # of rationales, those of the right answer
        rationales = {f"rationale_conditioned_on_a{number}_{choice}" for choice in range(4)}
        assert names == {"annot_id", *(f"answer_{choice}" for choice in range(4)), *rationales}
    assert {path.name for path in tmp_path.glob("out.*")} == {"out.csv", "out.answer.tsv", "out.rationale.tsv"}
