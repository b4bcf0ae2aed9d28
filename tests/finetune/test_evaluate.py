"""Official scores as users ask for them."""

import json

from typer.testing import CliRunner

from finetune.evaluate import app, print_scores
from parsers.command import InputError
from tests.finetune.worlds import write_vqa


def test_scores_are_printed_in_per_cent_and_written(tmp_path):
    questions = [image * 10 + number for image in range(6) for number in range(2)]
    answers = [{"question_id": question, "answer": "no"} for question in questions]
    (tmp_path / "vqa.json").write_text(json.dumps(answers))
    command = ["vqa", "--predictions", str(tmp_path / "vqa.json"), "--data", str(write_vqa(tmp_path / "data"))]
    result = CliRunner().invoke(app, [*command, "--split", "train", "--out", str(tmp_path / "scores.json")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "scores.json").read_text()) == {
        "accuracy": 0.5, "accuracy/other": 0.0, "accuracy/yes/no": 1.0,
    }  # fmt: skip
    assert "50.00 %" in result.output
    (tmp_path / "vqa.json").write_text(json.dumps(answers[1:]))
    result = CliRunner().invoke(app, [*command, "--split", "train"])
    assert isinstance(result.exception, InputError)


def test_a_table_has_a_row_for_each_score(capsys):
    print_scores("here", {"a": 0.12345, "b": 1.0})
    printed = capsys.readouterr().out
    assert "here" in printed
    assert "12.35 %" in printed or "12.34 %" in printed
    assert "100.00 %" in printed
