"""Shortlists as users start them: trained by one command, used by another."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from finetune.retrieve import app as retrieve
from finetune.shortlist import app as shortlist
from finetune.tasks.retrieval.captions import number_images
from parsers.command import InputError
from tests.finetune.retrieval import ALONE, retrieve_arguments


def test_shortlists(toys, task, trained, split, tmp_path):
    score, negatives = tmp_path / "cheap.safetensors", tmp_path / "hard.json"
    data = ["--data", str(toys.world / "tasks/flickr30k"), "--regions", str(toys.regions)]
    more = ["--out", str(score), "--steps", "60", "--hard-negatives", str(negatives), "--hard-negatives-each", "4"]
    result = CliRunner().invoke(shortlist, ["--model", str(trained[0]), *data, *more])
    assert result.exit_code == 0, result.output
    alike = json.loads(negatives.read_text())
    images, own = number_images(split.examples)
    assert alike.keys() == set(images)
    assert all(len(set(others)) == 4 and image not in others for image, others in alike.items())

    more = ["--shortlist", "2", "--cheap-score", str(score)]
    result = CliRunner().invoke(retrieve, retrieve_arguments(toys, trained[0], tmp_path / "out", *more))
    assert result.exit_code == 0, result.output
    scores, recalls = np.load(tmp_path / "out/scores.npy"), json.loads((tmp_path / "out/recalls.json").read_text())
    scored = scores > -np.inf
    assert recalls["shortlist/pairs"] == pytest.approx(scored.mean())
    assert recalls["shortlist/image"] == pytest.approx(scored[np.arange(len(own)), own].mean())
    assert recalls["shortlist/image"] > 0.3  # of the split that it was trained on; 4 of 48 by chance
    assert scored.mean() < 0.1
    everything = task.make_matrix(trained[1], split, batch_size=64, device=torch.device("cpu")).fill(ALONE)
    np.testing.assert_allclose(scores[scored], everything[scored], atol=1e-5)
    predictions = task.read_predictions(tmp_path / "out/predictions.json")
    lost = [number for number, caption in enumerate(own) if not scored[number, caption]]
    assert lost
    assert all(predictions[number]["rank"]["image"] is None for number in lost)

    other = tmp_path / "other"
    toys.model(task, other, seed=1)
    result = CliRunner().invoke(retrieve, retrieve_arguments(toys, other, tmp_path / "out2", *more))
    assert isinstance(result.exception, InputError)
    assert "another model" in str(result.exception)
    result = CliRunner().invoke(retrieve, retrieve_arguments(toys, trained[0], tmp_path / "out3", "--shortlist", "5"))
    assert result.exit_code == 2
