"""VCR: choices of both kinds, names of people, the leaderboard's file, and the three scores."""

import csv
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune.inputs import Batch, Sources, TextEncoder
from finetune.task import Split
from finetune.tasks.vcr import ANSWER, RATIONALE, Vcr, VcrSettings, _cut
from parsers.command import InputError
from shards.regions.store import RegionStore
from shards.tokenizer import load_tokenizer
from tests.finetune.worlds import grid, regions_folder, vcr_item, write_model, write_vcr


def predictions_for(questions, choose):
    """Certain predictions: all probability for the choice that ``choose`` makes."""
    found = []
    for question in questions:
        probabilities = np.eye(4)[choose(question)].tolist()
        item = {"annot_id": question.annot_id, "part": question.part, "given": question.given}
        found.append({**item, "right": question.right, "probabilities": probabilities})
    return found


@pytest.fixture
def sources(tmp_path):
    model = write_model(tmp_path / "model")
    regions = regions_folder(tmp_path / "regions", {f"train-{i}": grid(3 + i) for i in range(3)})
    gold = regions_folder(tmp_path / "gold", {str(i): [[0, 50, 40, 90]] * 2 for i in range(3)})
    named = [Vcr(VcrSettings()).named(RegionStore([folder]), []) for folder in (regions, gold)]
    return Sources(TextEncoder(load_tokenizer(model / "vocab.txt")), *named)


def test_each_question_is_a_choice_of_an_answer_and_of_a_rationale_for_the_right_answer(tmp_path):
    task = Vcr(VcrSettings())
    answer, rationale = task.read(write_vcr(tmp_path, questions=1), "train")
    assert (answer.part, answer.answer, answer.right, answer.given) == (ANSWER, None, 0, None)
    assert (rationale.part, rationale.right, rationale.given) == (RATIONALE, 1, 0)
    assert rationale.answer == answer.choices[0]
    (alone,) = Vcr(VcrSettings(parts=(RATIONALE,))).read(tmp_path, "train")
    assert alone == rationale


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer_label": 4}, "label 4 is outside the 4 choices"),
        ({"question": ["why", [2]]}, r"\[2\] is outside the list of 2 objects"),
        ({"answer_choices": [["a"]] * 3}, "3 choices, expected 4"),
        ({"objects": None}, "objects"),
        ({"annot_id": "train"}, "line 1"),
    ],
)
def test_a_bad_question_is_refused_with_its_line(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as error:
        Vcr(VcrSettings()).read(write_vcr(tmp_path, questions=1, **changes), "train")
    assert "train.jsonl: line 1" in str(error.value)


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
    with pytest.raises(InputError, match="no leaderboard file"):
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
    assert sorted(shown[0]) == sorted(encoder.pieces("casey riley"))


def test_regions_may_be_named_by_number_or_by_file(tmp_path):
    items = [vcr_item(number, "val", img_id=f"val-{number}", img_fn=f"movie/shot@{number}.jpg") for number in range(3)]
    (tmp_path / "val.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    task = Vcr(VcrSettings())
    questions = task.read(tmp_path, "val")
    for name in ("val-{}", "100000{}", "movie/shot@{}.jpg"):
        folder = regions_folder(tmp_path / name[:4], {name.format(i): grid(3 + i) for i in range(3)})
        named = task.named(RegionStore([folder]), questions)
        assert [len(named[f"val-{i}"].regions.boxes) for i in range(3)] == [3, 4, 5]
        assert "val-3" not in named


def test_parts_that_were_trained_separately_make_one_file(tmp_path):
    parts = [Vcr(VcrSettings(parts=(part,))) for part in (ANSWER, RATIONALE)]
    write_vcr(tmp_path, "test", 2, answer_label=None, rationale_label=None)
    found = [item for task in parts for item in predictions_for(task.read(tmp_path, "test"), lambda question: 1)]
    parts[0].write(found, tmp_path / "parts.csv")
    both = Vcr(VcrSettings())
    both.write(predictions_for(both.read(tmp_path, "test"), lambda question: 1), tmp_path / "both.csv")
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "both.csv").read_text()
    assert (tmp_path / "parts.rationale.tsv").exists()


def test_hidden_labels_cannot_be_learned(tmp_path):
    task = Vcr(VcrSettings())
    questions = task.read(write_vcr(tmp_path, "test", 2, answer_label=None, rationale_label=None), "test")
    with pytest.raises(InputError, match="test-0 has no public answer"):
        task.fitted(questions)


def test_names_come_from_a_table_or_a_list(tmp_path):
    path = tmp_path / "names"
    path.write_text(",name,total\n1,Ann,3\n2,Bo,4\n")
    assert VcrSettings(names=str(path)).names == ("Ann", "Bo")
    path.write_text("Ann\nBo\n")
    assert VcrSettings(names=str(path)).names == ("Ann", "Bo")


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


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 20))
def test_the_longer_text_is_cut(first, second, most):
    found = _cut(list(range(first)), list(range(second)), most)
    expected = [first, second]
    while sum(expected) > most:
        expected[0 if expected[0] > expected[1] else 1] -= 1
    assert [len(text) for text in found] == expected
    assert found == (list(range(expected[0])), list(range(expected[1])))


def test_each_part_has_its_head_unless_as_released():
    answers, rationales = torch.arange(8.0, requires_grad=True), torch.arange(8.0, 0, -1, requires_grad=True)
    labels = {"rationale": torch.tensor([False, True]), "right": torch.tensor([3, 0])}
    batch = Batch({}, labels)
    for as_released, hits in ((False, 2), (True, 1)):
        loss, right = Vcr(VcrSettings(as_released=as_released)).score((answers, rationales), batch)
        assert right == hits
        answers.grad = rationales.grad = None
        loss.backward()
        assert (answers.grad[:4] != 0).all()
        assert (answers.grad[4:] == 0).all() != as_released
        assert (rationales.grad[4:] == 0).all() == as_released
