"""The report on a run."""

import json
import sys

from tests.pretrain.launch import Launch


def test_a_run_is_compared_with_other_images_and_with_text_alone(runs):
    runs.start("images", "steps=3").succeed()
    runs.start("text", "steps=3", "images=none").succeed()
    command = [
        sys.executable,
        "-m",
        "pretrain.report",
        "--model",
        "images",
        "--config",
        "recipe.yaml",
        "--text-only",
        "text",
    ]
    command += ["--held-out", runs.shards, "--out", "report"]
    Launch(command, runs.folder, 1).succeed()
    report = json.loads((runs.folder / "report/report.json").read_text())
    assert set(report) == {"own image", "other image", "text only"}
    assert {"object", "word", "region", "match"} <= set(report["own image"])
    assert "region" not in report["text only"]
    for scores in report.values():
        for result in scores.values():
            assert 0 <= result["accuracy"] <= 1
            assert result["targets"] > 0
    assert (runs.folder / "report/losses.png").read_bytes().startswith(b"\x89PNG")
    page = (runs.folder / "report/index.html").read_text()
    assert '<img alt="losses by step" src="losses.png">' in page
    assert all(f"<td>{name}</td>" in page for name in ("object", "word", "region", "match"))
    command[4] = "nowhere"
    Launch(command, runs.folder, 1).fail()
