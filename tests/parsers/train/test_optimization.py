"""One network is trained by a recipe."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from parsers.gold import GoldCaption
from parsers.neural.network import ParserNetwork
from parsers.neural.parser import NeuralParser
from parsers.neural.word_encoder import WordEncoder
from parsers.train.labels import make_vocabulary
from parsers.train.optimization import REPORT, train_network
from parsers.train.progress import STATE, Progress
from parsers.train.recipe import FROM_SCRATCH

GOLD = [GoldCaption("red dog", (("dog", "is", "red"),))]


def train(examples, out, **changes):
    vocabulary = make_vocabulary(examples, [])
    torch.manual_seed(0)
    network = ParserNetwork(WordEncoder(vocabulary.words, width=8), vocabulary)
    recipe = replace(FROM_SCRATCH, epochs=2, batch=4, **changes)
    train_network(network, examples, examples, GOLD, out, recipe, np.random.default_rng(0))
    return json.loads((out / REPORT).read_text())


def test_a_network_is_written_with_its_scores(examples, tmp_path, capsys):
    report = train(examples, tmp_path)
    assert (report["epoch"], report["captions"]) == (2, 1)
    assert report["loss"] > 0
    graphs = NeuralParser(tmp_path).parse([GOLD[0].caption])
    assert [graph.caption for graph in graphs] == ["red dog"]
    shown = capsys.readouterr().out
    assert f"training {tmp_path} on {len(examples)} captions" in shown
    assert "epoch 2 of 2" in shown


def test_the_same_seed_trains_the_same_network(examples, tmp_path):
    reports = [train(examples, tmp_path / name) for name in ("one", "two")]
    assert reports[0] == reports[1]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("changes", [{"rate": 0.1}, {"joined": 2.0}, {"averaged": 0.5}], ids=lambda c: next(iter(c)))
def test_a_recipe_changes_the_network(examples, tmp_path, changes):
    train(examples, tmp_path / "one")
    train(examples, tmp_path / "two", **changes)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] != weights[1]


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_and_ends_the_same(examples, tmp_path, monkeypatch):
    wanted = train(examples, tmp_path / "whole", dropout=0.2)
    save = Progress.save

    def save_and_stop(progress, report):
        save(progress, report)
        raise Stopped

    monkeypatch.setattr(Progress, "save", save_and_stop)
    with pytest.raises(Stopped):
        train(examples, tmp_path / "stopped", dropout=0.2)
    monkeypatch.undo()
    assert not (tmp_path / "stopped" / REPORT).exists()
    assert train(examples, tmp_path / "stopped", dropout=0.2) == wanted
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "stopped" / STATE).exists()


def test_the_state_of_another_run_is_not_used(examples, tmp_path, monkeypatch, capsys):
    def stop(_):
        raise Stopped

    monkeypatch.setattr(Progress, "remove", stop)
    with pytest.raises(Stopped):
        train(examples, tmp_path, joined=0.0)
    monkeypatch.undo()
    report = train(examples, tmp_path, joined=2.0)
    assert "was left by a run on other captions or by another recipe" in capsys.readouterr().out
    assert report == train(examples, tmp_path / "other", joined=2.0)
