"""VQA: the official accuracy, answers as classes, and files that are not as they should be."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.inputs import Sources, TextEncoder
from finetune.task import Split
from finetune.tasks.vqa import Vqa, VqaSettings
from finetune.tasks.vqa_accuracy import accuracy, normalise
from parsers.command import InputError
from shards.regions.store import RegionStore
from shards.tokenizer import load_tokenizer
from tests.finetune.worlds import grid, regions_folder, write_model, write_vqa


@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        ("A red Bus", "red bus"),
        ("the an a", ""),
        ("Two", "2"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("ten dogs and one cat", "10 dogs and 1 cat"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("its", "its"),  # not in the official table
        ("somebody'd", "somebodyd"),  # the wrong way round there, too
        ("its 11:10", "its 11:10"),
        ("red, white", "red white"),
        ("red,white", "red white"),
        ("red/white", "red white"),
        ("1,000", "1000"),
        ("1,000 - 2/3", "1000 23"),  # next to such a number all marks vanish
        ("t-shirt", "t shirt"),
        ("yes.", "yes"),
        ("3.5", "3.5"),
        ("st. mary", "st mary"),
        ("what?!", "what"),
        (" line\nbreak\there ", "line break here"),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_officially(answer, normalised):
    assert normalise(answer) == normalised


@pytest.mark.parametrize(
    ("answer", "annotated", "expected"),
    [
        ("yes", ["yes"] * 10, 1.0),
        ("no", ["yes"] * 10, 0.0),
        ("yes", ["yes"] + ["no"] * 9, 0.9 * 1 / 3),
        ("yes", ["yes"] * 2 + ["no"] * 8, 0.8 * 2 / 3 + 0.2 * 1 / 3),
        ("yes", ["yes"] * 3 + ["no"] * 7, 0.7 * 1 + 0.3 * 2 / 3),
        ("yes", ["yes"] * 4 + ["no"] * 6, 1.0),
        ("no", ["yes"] * 5 + ["no"] * 5, 1.0),  # a tie: both are right
        ("The Two", ["2"] * 10, 1.0),
        ("red/white", ["red/white"] * 9 + ["red-white"], 1.0),
        ("red white", ["red/white"] * 10, 0.0),  # answers that are all the same keep their punctuation, officially
        ("0", ["none"] * 9 + ["nothing"], 1.0),
        ("cat", ["the cat"] * 5 + ["a cat"] * 5, 1.0),
        ("don't", ["dont"] * 5 + ["no"] * 5, 1.0),
        ("1000", ["1,000"] * 5 + ["1000."] * 5, 1.0),
        ("a dog", ["dog"] * 10, 1.0),
        ("yes", [" yes\n"] * 10, 1.0),
    ],
)
def test_accuracy_of_hand_made_cases(answer, annotated, expected):
    assert accuracy(answer, annotated) == pytest.approx(expected)


@given(st.sampled_from("abcd"), st.lists(st.sampled_from("bcd"), min_size=1, max_size=10))
def test_accuracy_is_the_mean_over_all_subsets_without_one(answer, annotated):
    subsets = [annotated[:i] + annotated[i + 1 :] for i in range(len(annotated))]
    expected = np.mean([min(1, subset.count(answer) / 3) for subset in subsets])
    assert accuracy(answer, annotated) == pytest.approx(expected if answer != "a" else 0)


@given(st.text("ab ,.'-/1two", max_size=12))
def test_normalised_answers_have_no_loose_spaces(answer):
    assert normalise(answer) == " ".join(normalise(answer).split())


@pytest.fixture
def files(tmp_path):
    return write_vqa(tmp_path / "vqa")


def test_answers_become_classes_by_how_often_they_are_the_main_one(files):
    task = Vqa(VqaSettings(least_count=2))
    fitted = task.fitted(task.read(files, "train"))
    assert fitted.answers == ("no", "blue", "green", "red")
    with pytest.raises(InputError, match=r"lower task\.least_count"):
        Vqa(VqaSettings()).fitted(task.read(files, "train"))


def test_targets_are_soft_and_answers_outside_the_classes_have_none(files, tmp_path):
    path = files / "v2_mscoco_train_annotations.json"
    record = json.loads(path.read_text())
    answers = ["red"] * 2 + ["A Red"] + ["blue"] * 4 + ["pink"] * 3
    record["annotations"][0]["answers"] = [{"answer": answer} for answer in answers]
    path.write_text(json.dumps(record))
    task = Vqa(VqaSettings(answers=("blue", "no", "red")))
    model, regions = write_model(tmp_path / "m"), regions_folder(tmp_path / "r", {str(i): grid(2) for i in range(6)})
    sources = Sources(TextEncoder(load_tokenizer(model / "vocab.txt")), RegionStore([regions]))
    batch = task.collate(Split(task.read(files, "train"), sources), np.array([0, 1]), None)
    np.testing.assert_allclose(batch.labels["targets"], [[1, 0, 0.9], [0, 1, 0]], atol=1e-6)


def test_scores_are_by_answer_type_and_every_question_must_be_answered_once(files):
    task = Vqa(VqaSettings())
    questions = task.read(files, "train")
    given = [{"question_id": q.question_id, "answer": "no"} for q in questions]
    assert task.evaluate(given, questions) == {"accuracy": 0.5, "accuracy/other": 0.0, "accuracy/yes/no": 1.0}
    for wrong, message in (
        (given[1:], "1 are missing"),
        ([*given, given[0]], "1 are repeated"),
        ([*given[1:], {"question_id": 999, "answer": "x"}], "1 belong to other"),
    ):
        with pytest.raises(InputError, match=message):
            task.evaluate(wrong, questions)


def test_predictions_come_back_from_the_servers_file(tmp_path):
    task, path = Vqa(VqaSettings()), tmp_path / "result.json"
    predictions = [{"question_id": 3, "answer": "red"}, {"question_id": 1, "answer": ""}]
    task.write(predictions, path)
    assert json.loads(path.read_text()) == predictions == task.read_predictions(path)
    path.write_text('[{"question": 3}]')
    with pytest.raises(InputError, match="no VQA result file"):
        task.read_predictions(path)


def test_questions_without_public_answers_are_read_and_cannot_be_scored(files):
    task = Vqa(VqaSettings())
    (files / "v2_mscoco_train_annotations.json").unlink()
    questions = task.read(files, "train")
    assert len(questions) == 12
    with pytest.raises(InputError, match="its split lacks annotations"):
        task.fitted(questions)
    with pytest.raises(InputError, match="no public answer"):
        task.evaluate([{"question_id": q.question_id, "answer": "no"} for q in questions], questions)


def test_an_unknown_split_and_annotations_of_other_questions_are_refused(files):
    task = Vqa(VqaSettings())
    with pytest.raises(InputError, match=r"val_questions\.json: cannot be read"):
        task.read(files, "val")
    path = files / "v2_mscoco_train_annotations.json"
    record = json.loads(path.read_text())
    record["annotations"].pop()
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="question 51 is not in both"):
        task.read(files, "train")
    path.write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        task.read(files, "train")


def test_labels_of_released_files_must_be_in_the_list_of_answers(shared):
    folder = shared / "parity/readers"
    with pytest.raises(InputError, match=r"give it as task\.answers"):
        Vqa(VqaSettings()).read(folder, "vqa.tsv")
    with pytest.raises(InputError, match=r"vqa\.tsv@0: label 5 is outside the list of 2 answers"):
        Vqa(VqaSettings(answers=("a", "b"))).read(folder, "vqa.tsv")
    task = Vqa(VqaSettings(answers=str(shared / "data/tasks/vqa_v2/trainval_label2ans.json")))
    questions = task.read(folder, "vqa.tsv")
    best = [{"question_id": q.question_id, "answer": max(q.targets, key=q.targets.get, default="")} for q in questions]
    assert task.evaluate(best, questions) == {"accuracy": pytest.approx((1 + 0.9 + 0.6 + 0) / 4)}
