"""The command: its options, and detectors that cannot be had."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shards.manifest import DetectorInfo
from shards.regions.detector import DetectorRecord
from tests.pipeline.extract.pictures import ROOT, SIZES, extract, rows_of


def test_another_package_adds_a_detector(folder, tmp_path):
    (module,) = re.findall(r"```python\n# halves.py\n(.*?)```", (ROOT / "docs/regions.md").read_text(), re.DOTALL)
    (tmp_path / "halves.py").write_text(module)
    # What installing the package's setup.cfg leaves behind.
    installed = tmp_path / "halves-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: halves\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[ernie_vil.detectors]\nhalves = halves:HalvesDetector\n")
    command = [sys.executable, "-m", "pipeline.extract", str(folder), "--detector", "halves", "--out", "regions"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([*command, "--workers", "1"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "regions")
    assert len(rows) == len(SIZES)
    assert rows["0"].regions.boxes.tolist() == [[0, 0, 40, 60], [40, 0, 80, 60]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector", "nothing"], "there is no detector 'nothing'; installed are:"),
        (["--detector", "torchvision:ssd300_vgg16"], "no torchvision model 'ssd300_vgg16' with an RoI head; there are"),
        (["--detector", "torchvision:fasterrcnn_resnet50_fpn", "--weights", "x"], "knows COCO_V1, DEFAULT"),
        (["--detector", "toyworld"], "train_detector` makes it"),
        (["--detector", "toyworld", "--preset", "ernie-vil"], "does not take these options"),
        (["--weights", "frcnn.bin"], "frcnn.bin: there is no such file"),
        pytest.param(
            ["--device", "cuda"],
            "the installed PyTorch sees no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_detectors_that_cannot_be_had_are_input_errors(folder, tmp_path, arguments, message):
    result = extract(folder, "--out", tmp_path / "out", *arguments, code=1)
    assert message in str(result.exception)


def test_options_that_do_not_go_together_are_refused(folder, tmp_path):
    for options in (["--engine", "ray", "--device", "cuda"], ["--boxes", "x.json", "--min-boxes", 1], ["--gpus", 1]):
        assert extract(folder, "--out", tmp_path / "out", *options, code=2).exit_code == 2
    assert not (tmp_path / "out").exists()


def test_an_output_in_an_input_is_refused(folder, weights, tmp_path):
    for options in ((folder, "--out", folder / "out"), (folder, "--boxes", tmp_path, "--out", tmp_path / "out")):
        assert "inputs must not change" in str(extract(*options, weights=weights, code=1).exception)
    assert not (folder / "out").exists()


def test_files_are_counted_not_listed(folder, weights, tmp_path):
    said = extract(folder / "*.png", "--out", tmp_path / "out", "--workers", 1, weights=weights).output
    assert f"single pictures: {len(SIZES)}" in said
    assert "000000000001.png" not in said


def test_weights_of_another_network_and_files_that_are_none_are_input_errors(folder, weights, tmp_path):
    model = ("--detector", "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", "--out", tmp_path / "out")
    refused = extract(folder, *model, "--weights", weights, code=1)
    assert "the weights are of another network" in str(refused.exception)
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        assert name in str(extract(folder, *model, "--weights", tmp_path / name, code=1).exception)
    torch.save({"model": 1}, tmp_path / "other.pth")
    assert "state dict" in str(extract(folder, *model, "--weights", tmp_path / "other.pth", code=1).exception)
    torch.save({"code": Path("x")}, tmp_path / "pickle.pth")
    assert "weights alone" in str(extract(folder, *model, "--weights", tmp_path / "pickle.pth", code=1).exception)


def test_a_model_brings_its_detector_and_the_command_says_so(folder, weights, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    refused = extract(folder, "--out", tmp_path / "out", "--model", model, code=1)
    assert "does not record the detector of its regions" in str(refused.exception)
    DetectorRecord(
        detector=DetectorInfo(name="toyworld", options={"weights": str(weights), "min_boxes": 5}), feature_size=256
    ).save(model)
    said = extract(folder, "--out", tmp_path / "out", "--model", model, "--workers", 1).output
    assert "detector: toyworld, because the model was trained on its regions" in said
    assert rows_of(tmp_path / "out").keys() == {str(number) for number in range(len(SIZES))}
