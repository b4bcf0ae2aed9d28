"""The tables of a comparison."""

import json

from finetune.comparison.report import make_rows, write_comparison

RESULTS = {
    "vqa": {"chance": {"test/accuracy": [0.25]}, "a": {"test/accuracy": [0.5, 0.6]}},
    "refcoco_plus": {"chance": {"testA/accuracy": [0.1]}, "a": {"testA/accuracy": [0.2], "testB/accuracy": [1.0]}},
}


def test_a_row_has_a_task_and_score_with_the_mean_and_deviation_of_each_start():
    assert make_rows(RESULTS, ["a"]) == [
        ["vqa", "accuracy, test", "25.0", "55.0 ± 7.1"],
        ["refcoco_plus", "accuracy, testA", "10.0", "20.0"],
        ["refcoco_plus", "accuracy, testB", "-", "100.0"],
    ]


def test_the_files_hold_all_scores_and_the_chosen_learning_rates(tmp_path):
    write_comparison(RESULTS, {"vqa": {"a": 1e-3}, "refcoco_plus": {"a": None}}, ["a"], tmp_path)
    found = json.loads((tmp_path / "tasks.json").read_text())
    assert found["vqa"] == {
        "chance": {"test/accuracy": [0.25]},
        "a": {"test/accuracy": [0.5, 0.6], "learning_rate": 1e-3},
    }
    assert found["refcoco_plus"]["a"]["learning_rate"] is None
    table = (tmp_path / "tasks.md").read_text().splitlines()
    assert table[:3] == [
        "| task | score | chance | a |",
        "| --- | --- | --- | --- |",
        "| vqa | accuracy, test | 25.0 | 55.0 ± 7.1 |",
    ]
