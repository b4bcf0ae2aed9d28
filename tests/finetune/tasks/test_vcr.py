"""VCR: choices of both kinds, names of people, the leaderboard's file, and the three scores."""

import csv
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune.inputs import Sources, TaskBatch, TextEncoder
from finetune.task import Split
from finetune.tasks.vcr import Vcr, VcrSettings
from finetune.tasks.vcr_files import ANSWER, RATIONALE
from parsers.command import InputError
from shards.regions.store import RegionStore
from shards.vocabulary import load_tokenizer
from tests.finetune.vcr import predictions_for
from tests.finetune.worlds import grid, regions_folder, vcr_item, write_model, write_vcr


@pytest.fixture
def sources(tmp_path):
    model = write_model(tmp_path / "model")
    regions = regions_folder(tmp_path / "regions", {f"train-{i}": grid(3 + i) for i in range(3)})
    gold = regions_folder(tmp_path / "gold", {str(i): [[0, 50, 40, 90]] * 2 for i in range(3)})
    named = [Vcr(VcrSettings()).rename_regions(RegionStore([folder]), []) for folder in (regions, gold)]
    return Sources(TextEncoder(load_tokenizer(model / "vocab.txt")), *named)


def test_without_public_labels_rationales_are_asked_for_every_answer_and_nothing_is_scored(tmp_path):
    task = Vcr(VcrSettings())
    questions = task.read(write_vcr(tmp_path, "test", 2, answer_label=None, rationale_label=None), "test")
    assert [question.given for question in questions] == [None, 0, 1, 2, 3] * 2
    found = predictions_for(questions, lambda question: 2)
    with pytest.raises(InputError, match="no public answer"):
        task.evaluate(found, questions)
    task.write(found, tmp_path / "test.csv")
    with (tmp_path / "test.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2
    assert len(rows[0]) == 1 + 4 + 16
    assert rows[0]["annot_id"] == "test-0"
    assert rows[1]["rationale_conditioned_on_a3_2"] == "1.0"
    assert (tmp_path / "test.rationale.tsv").read_text().splitlines()[4] == "1\t2\t-1\t0.00000 0.00000 1.00000 0.00000"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_both_are_right_where_each_is(tmp_path_factory, wanted):
    folder = tmp_path_factory.mktemp("vcr")
    task = Vcr(VcrSettings())
    questions = task.read(write_vcr(folder, questions=len(wanted)), "train")

    def choose(question):
        right = wanted[question.number][question.part == RATIONALE]
        return question.right if right else (question.right + 1) % 4

    predictions = predictions_for(questions, choose)
    expected = {"Q->A": np.mean([a for a, _ in wanted]), "QA->R": np.mean([r for _, r in wanted])}
    expected["Q->AR"] = np.mean([a and r for a, r in wanted])
    assert task.evaluate(predictions, questions) == pytest.approx(expected)
    task.write(predictions, folder / "out.csv")
    assert task.evaluate(task.read_predictions(folder / "out.csv"), questions) == pytest.approx(expected)


def test_of_equal_probabilities_the_first_choice_counts(tmp_path):
    task = Vcr(VcrSettings(parts=(ANSWER,)))
    questions = task.read(write_vcr(tmp_path, questions=4), "train")
    even = [{"annot_id": q.annot_id, "given": None, "probabilities": [0.25] * 4} for q in questions]
    assert task.evaluate(even, questions) == {"Q->A": 0.25}  # each choice is right once


def test_unknown_splits_files_and_predictions_that_lack_a_question_are_refused(tmp_path):
    task = Vcr(VcrSettings())
    with pytest.raises(InputError, match="there are train, val, test"):
        task.read(tmp_path, "dev")
    with pytest.raises(InputError, match=r"val\.jsonl: cannot be read"):
        task.read(tmp_path, "val")
    questions = task.read(write_vcr(tmp_path, questions=2), "train")
    with pytest.raises(InputError, match="train-1: the predictions lack its rationale"):
        task.evaluate(predictions_for(questions[:3], lambda question: 0), questions)
    (tmp_path / "x.csv").write_text("annot_id,answer_0\ntrain-0,1\n")
    with pytest.raises(InputError, match="is not a leaderboard file"):
        task.read_predictions(tmp_path / "x.csv")


def test_people_have_different_names_that_stay_theirs(tmp_path, sources):
    item = vcr_item(0, question=["is", [0], [1], "?"], objects=["person", "person", "dog"])
    (tmp_path / "train.jsonl").write_text(json.dumps(item))
    encoder = sources.texts
    shown = []
    for _ in range(2):
        task = Vcr(VcrSettings(names=("casey", "riley")))
        question = task.read(tmp_path, "train")[0]
        batch = task.collate(Split([question], sources), np.array([0]), None)
        shown.append(batch.inputs["token_ids"][0, 2:4].tolist())
        first = batch.inputs["token_ids"][1, batch.inputs["segment_ids"][1].argmax() + 1].item()
        assert first == shown[0][0]  # the same person in the answer
    assert shown[0] == shown[1]
    assert sorted(shown[0]) == sorted(encoder.tokenize("casey riley"))


def test_hidden_labels_cannot_be_learned(tmp_path):
    task = Vcr(VcrSettings())
    questions = task.read(write_vcr(tmp_path, "test", 2, answer_label=None, rationale_label=None), "test")
    with pytest.raises(InputError, match="test-0 has no public answer"):
        task.fit(questions)


def test_ground_truth_regions_follow_the_detectors_and_are_kept_where_there_is_no_room(tmp_path, sources):
    questions = Vcr(VcrSettings()).read(write_vcr(tmp_path, questions=1), "train")[:1]
    for most, detected, gold in ((100, 3, 2), (5, 2, 2), (3, 0, 2), (2, 0, 1)):
        task = Vcr(VcrSettings(max_regions=most))
        inputs = task.collate(Split(questions, sources), np.array([0]), None).inputs
        locations = inputs["locations"][0].numpy()
        assert len(locations) == 1 + detected + gold
        np.testing.assert_allclose(locations[1 : 1 + detected, 1], 0.1)
        np.testing.assert_allclose(locations[1 + detected :, 1], 0.5)
        whole = np.concatenate([source["train-0"].regions.features for source in (sources.images, sources.gold)])
        np.testing.assert_allclose(inputs["features"][0, 0], whole.astype(np.float32).mean(0), atol=1e-6)


def test_each_part_has_its_head_unless_as_released():
    answers, rationales = torch.arange(8.0, requires_grad=True), torch.arange(8.0, 0, -1, requires_grad=True)
    labels = {"rationale": torch.tensor([False, True]), "right": torch.tensor([3, 0])}
    batch = TaskBatch({}, labels)
    for as_released, hits in ((False, 2), (True, 1)):
        loss, right = Vcr(VcrSettings(as_released=as_released)).compute_loss(torch.stack([answers, rationales]), batch)
        assert right == hits
        answers.grad = rationales.grad = None
        loss.backward()
        assert (answers.grad[:4] != 0).all()
        assert (answers.grad[4:] == 0).all() != as_released
        assert (rationales.grad[4:] == 0).all() == as_released
