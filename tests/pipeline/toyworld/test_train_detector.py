"""The toy world from pixels to recall."""

import re

import pytest

from tests.pipeline.extract.pictures import rows_of, run


def train_and_extract(folder, *, images, steps, batch_size):
    run("pipeline.toyworld", "--num-images", images, "--out", "world", "--workers", 1, cwd=folder)
    options = ("--steps", steps, "--batch-size", batch_size)
    run("pipeline.toyworld.train_detector", "--out", "detector.safetensors", *options, cwd=folder)
    options = ("--detector", "toyworld", "--weights", "detector.safetensors", "--workers", 1)
    run("pipeline.extract", "world/captions.json", "--images", "world/images", *options, "--out", "regions", cwd=folder)
    said = run("pipeline.toyworld.recall", "regions", "--scenes", "world/scenes.jsonl", cwd=folder)
    return [float(share) / 100 for share in re.findall(r"([\d.]+)%", said)]


def test_the_toy_world_goes_from_pixels_to_recall(tmp_path):
    covered, named = train_and_extract(tmp_path, images=4, steps=10, batch_size=2)
    assert 0 <= named <= covered <= 1
    assert list(rows_of(tmp_path / "regions")) == ["1", "2", "3", "4"]


@pytest.mark.slow
def test_the_trained_detector_finds_the_toys(tmp_path):
    covered, named = train_and_extract(tmp_path, images=100, steps=400, batch_size=8)
    assert covered > 0.9
    assert named > 0.8
