"""The files of VCR: questions, names of people, regions, and the leaderboard's file."""

import json

import pytest

from finetune.tasks.vcr import Vcr, VcrSettings
from finetune.tasks.vcr_files import (
    ANSWER,
    LEADERBOARD,
    RATIONALE,
    read_leaderboard,
    write_leaderboard,
    write_released_tables,
)
from parsers.command import InputError
from shards.regions.store import RegionStore
from tests.finetune.vcr import predictions_for
from tests.finetune.worlds import grid, regions_folder, vcr_item, write_vcr


def test_each_question_is_a_choice_of_an_answer_and_of_a_rationale_for_the_right_answer(tmp_path):
    task = Vcr(VcrSettings())
    answer, rationale = task.read(write_vcr(tmp_path, questions=1), "train")
    assert (answer.part, answer.answer, answer.right, answer.given) == (ANSWER, None, 0, None)
    assert (rationale.part, rationale.right, rationale.given) == (RATIONALE, 1, 0)
    assert rationale.answer == answer.choices[0]
    (alone,) = Vcr(VcrSettings(parts=(RATIONALE,))).read(tmp_path, "train")
    assert alone == rationale


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


def test_regions_may_be_named_by_number_or_by_file(tmp_path):
    items = [vcr_item(number, "val", img_id=f"val-{number}", img_fn=f"movie/shot@{number}.jpg") for number in range(3)]
    (tmp_path / "val.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    task = Vcr(VcrSettings())
    questions = task.read(tmp_path, "val")
    for name in ("val-{}", "100000{}", "movie/shot@{}.jpg"):
        folder = regions_folder(tmp_path / name[:4], {name.format(i): grid(3 + i) for i in range(3)})
        named = task.rename_regions(RegionStore([folder]), questions)
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


def test_names_come_from_a_table_or_a_list(tmp_path):
    path = tmp_path / "names"
    path.write_text(",name,total\n1,Ann,3\n2,Bo,4\n")
    assert VcrSettings(names=str(path)).names == ("Ann", "Bo")
    path.write_text("Ann\nBo\n")
    assert VcrSettings(names=str(path)).names == ("Ann", "Bo")


PREDICTION = {
    "annot_id": "val-7", "part": "rationale", "given": 2, "right": 1, "probabilities": [0.1, 0.25, 0.25, 0.4],
}  # fmt: skip


def test_a_leaderboard_file_is_read_as_it_was_written(tmp_path):
    answer = PREDICTION | {"part": "answer", "given": None}
    write_leaderboard([PREDICTION, answer], tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == ",".join(LEADERBOARD)
    assert len(lines) == 2, "a question is a row"
    found = read_leaderboard(tmp_path / "out.csv")
    assert found == [
        {name: item[name] for name in ("annot_id", "given", "probabilities")} for item in (answer, PREDICTION)
    ]
    with pytest.raises(InputError, match="cannot be read"):
        read_leaderboard(tmp_path / "none.csv")


def test_a_released_table_has_a_line_for_each_question(tmp_path):
    write_released_tables([PREDICTION, PREDICTION | {"right": None}], tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["out.rationale.tsv"]
    assert (tmp_path / "out.rationale.tsv").read_text() == (
        "7\t3\t1\t0.10000 0.25000 0.25000 0.40000\n7\t3\t-1\t0.10000 0.25000 0.25000 0.40000\n"
    )
