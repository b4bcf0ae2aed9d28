"""Real photos, killed runs and many pictures."""

import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks.processes import run_alone
from tests.pipeline.extract.pictures import ROOT, SIZES, extract, noise, rows_of, run
from tests.pipeline.outputs import contents


def test_real_photos_go_all_the_way_into_shards(shared, weights, tmp_path):
    photos = shared / "data/images"
    out = tmp_path / "regions"
    extract(photos, "--out", out, "--workers", 1, weights=weights)
    rows = rows_of(out)
    assert len(rows) == 102
    assert {"285", "785"} <= rows.keys()
    with (tmp_path / "captions.jsonl").open("w") as stream:
        for image_id in rows:
            stream.write(json.dumps({"image_id": image_id, "caption": "a red bus on a street"}) + "\n")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nred\nbus\non\nstreet\n")
    for command in (
        ["pipeline.parse", "captions.jsonl", "--out", "graphs", "--workers", "1"],
        ["pipeline.pack", "--graphs", "graphs", "--regions", "regions", "--tokenizer", "vocab.txt", "--out", "shards"],
        ["shards.inspect", "verify", "shards/train"],
    ):
        said = run(*command, cwd=tmp_path)
    assert "102 images, all sound" in said


@pytest.mark.slow
def test_real_photos_give_the_same_bytes_with_two_workers_and_after_a_kill(shared, weights, tmp_path):
    options = ("--partition-size", 10, "--detector", "toyworld", "--weights", weights, "--min-boxes", 5)
    arguments = [str(value) for value in ("pipeline.extract", shared / "data/images", *options)]
    run(*arguments, "--workers", 1, "--out", "one", cwd=tmp_path)
    run(*arguments, "--workers", 2, "--out", "two", cwd=tmp_path)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    command = [sys.executable, "-m", *arguments, "--workers", "1", "--out", "killed"]
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}) as stage:
        while not (tmp_path / "killed/part-00002.parquet").exists():
            assert stage.poll() is None
            time.sleep(0.05)
        stage.kill()
    assert not (tmp_path / "killed/report.json").exists()
    run(*arguments, "--workers", 1, "--out", "killed", cwd=tmp_path)
    assert contents(tmp_path / "killed") == contents(tmp_path / "one")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(weights, tmp_path):
    peaks = []
    for count in (200, 2_000):
        pictures = tmp_path / str(count)
        pictures.mkdir()
        for number in range(count):
            noise(number, SIZES[number % len(SIZES)]).save(pictures / f"{number}.jpg")
        command = [sys.executable, "-m", "pipeline.extract", str(pictures), "--out", str(tmp_path / f"out{count}")]
        options = ["--detector", "toyworld", "--weights", str(weights), "--workers", "1", "--partition-size", "100"]
        peak, _ = run_alone([*command, *options])
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 60e6, peaks
