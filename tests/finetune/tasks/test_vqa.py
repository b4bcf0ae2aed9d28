"""VQA: the official accuracy, answers as classes, and files that are not as they should be."""

import json

import numpy as np
import pytest

from finetune.inputs import Sources, TextEncoder
from finetune.task import Split
from finetune.tasks.vqa import Vqa, VqaSettings
from parsers.command import InputError
from shards.regions.store import RegionStore
from shards.vocabulary import load_tokenizer
from tests.finetune.worlds import grid, regions_folder, write_model, write_vqa


@pytest.fixture
def files(tmp_path):
    return write_vqa(tmp_path / "vqa")


def test_answers_become_classes_by_how_often_they_are_the_main_one(files):
    task = Vqa(VqaSettings(least_count=2))
    fitted = task.fit(task.read(files, "train"))
    assert fitted.answers == ("no", "blue", "green", "red")
    with pytest.raises(InputError, match=r"lower task\.least_count"):
        Vqa(VqaSettings()).fit(task.read(files, "train"))


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
        (given[1:], r"1 \(e\.g\. 0\) missing, 0 unknown, 0 repeated"),
        ([*given, given[0]], "0 missing, 0 unknown, 1 repeated"),
        ([*given[1:], {"question_id": 999, "answer": "x"}], r"1 \(e\.g\. 0\) missing, 1 \(e\.g\. 999\) unknown"),
    ):
        with pytest.raises(InputError, match=message):
            task.evaluate(wrong, questions)


def test_predictions_come_back_from_the_servers_file(tmp_path):
    task, path = Vqa(VqaSettings()), tmp_path / "result.json"
    predictions = [{"question_id": 3, "answer": "red"}, {"question_id": 1, "answer": ""}]
    task.write(predictions, path)
    assert json.loads(path.read_text()) == predictions == task.read_predictions(path)
    path.write_text('[{"question": 3}]')
    with pytest.raises(InputError, match="is not a VQA result file"):
        task.read_predictions(path)


def test_no_answer_earns_nothing(files, tmp_path):
    """Not even where annotators have said "none", which is also how Python writes it."""
    task = Vqa(VqaSettings())
    path = files / "v2_mscoco_train_annotations.json"
    record = json.loads(path.read_text())
    for item in record["annotations"]:
        item["answers"] = [{"answer": answer} for answer in ["none"] * 9 + [""]]
    path.write_text(json.dumps(record))
    questions = task.read(files, "train")
    result = tmp_path / "result.json"
    result.write_text(json.dumps([{"question_id": q.question_id, "answer": None} for q in questions]))
    assert task.evaluate(task.read_predictions(result), questions)["accuracy"] == 0
    result.write_text(json.dumps([{"question_id": q.question_id, "answer": "None"} for q in questions]))
    assert task.evaluate(task.read_predictions(result), questions)["accuracy"] == 1


@pytest.mark.parametrize("wrong", [2, ["red"], {"a": 1}, True])
def test_an_answer_that_is_no_text_is_refused(files, tmp_path, wrong):
    task, result = Vqa(VqaSettings()), tmp_path / "result.json"
    result.write_text(json.dumps([{"question_id": 3, "answer": wrong}]))
    with pytest.raises(InputError, match="is no text"):
        task.read_predictions(result)
    path = files / "v2_mscoco_train_annotations.json"
    record = json.loads(path.read_text())
    record["annotations"][2]["answers"][0]["answer"] = None
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"\(question \d+\): .*None is no text"):
        task.read(files, "train")


def test_questions_without_public_answers_are_read_and_cannot_be_scored(files):
    task = Vqa(VqaSettings())
    (files / "v2_mscoco_train_annotations.json").unlink()
    questions = task.read(files, "train")
    assert len(questions) == 12
    with pytest.raises(InputError, match="its split lacks annotations"):
        task.fit(questions)
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
    with pytest.raises(InputError, match=r"vqa\.tsv: line at byte 0: label 5 is outside the 2 answers"):
        Vqa(VqaSettings(answers=("a", "b"))).read(folder, "vqa.tsv")
    task = Vqa(VqaSettings(answers=str(shared / "data/tasks/vqa_v2/trainval_label2ans.json")))
    questions = task.read(folder, "vqa.tsv")
    best = [{"question_id": q.question_id, "answer": max(q.targets, key=q.targets.get, default="")} for q in questions]
    assert task.evaluate(best, questions) == {"accuracy": pytest.approx((1 + 0.9 + 0.6 + 0) / 4)}
