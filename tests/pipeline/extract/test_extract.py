"""From pictures to regions: the stage as a command, and what a detector promises."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from benchmarks.processes import run_alone
from pipeline import detectors
from pipeline.detectors import Detections
from pipeline.execution.parts import Part
from pipeline.extract import images
from pipeline.extract.__main__ import app
from pipeline.extract.stage import DECODERS, ExtractStage, PicturePartition, regions_info
from pipeline.toyworld import sample_scene
from pipeline.toyworld.network import CLASS_NAMES, FEATURES, build_network
from pipeline.toyworld.recall import recall
from shards.regions.table import RegionsInfo, RegionsRow, read_rows
from shards.schema import Classes, Regions
from shards.stage_folder import parts_of
from tests.pipeline.outputs import contents

ROOT = Path(__file__).parents[3]
SIZES = [(80, 60), (60, 80), (96, 64), (80, 60), (64, 64), (80, 60), (96, 64), (50, 100), (80, 60)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of the smallest network, random."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    torch.manual_seed(0)
    save_file(build_network().state_dict(), path, {"class_names": json.dumps(CLASS_NAMES)})
    return path


def noise(number, size):
    values = np.random.default_rng(number)
    small = Image.fromarray(values.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of several shapes."""
    path = tmp_path_factory.mktemp("pictures")
    for number, size in enumerate(SIZES):
        noise(number, size).save(path / f"{number:012}.png")
    return path


def extract(*arguments, weights=None, code=0):
    given = [] if weights is None else ["--detector", "toyworld", "--weights", weights]
    given += [] if weights is None or "--boxes" in arguments else ["--min-boxes", 5]
    result = CliRunner().invoke(app, [str(value) for value in (*arguments, *given)])
    if code == 0:
        assert result.exit_code == 0, result.output + repr(result.exception)
    return result


def rows_of(out):
    info = RegionsInfo.from_file(parts_of(out)[0])
    return {row.image_id: row for part in parts_of(out) for row in read_rows(pq.read_table(part), info.feature_size)}


def rejects_of(out):
    files = sorted((out / "rejects").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def regions(folder, weights, tmp_path_factory):
    """What one worker writes."""
    out = tmp_path_factory.mktemp("regions") / "out"
    extract(folder, "--out", out, "--workers", 1, "--partition-size", 4, weights=weights)
    return out


# ------------------------------------------------------------------------------------------------------------ the stage


def test_every_picture_gets_a_row_of_valid_regions(folder, regions):
    rows = rows_of(regions)
    assert list(rows) == [str(number) for number in range(len(SIZES))]
    info = RegionsInfo.from_file(parts_of(regions)[0])
    assert (info.feature_size, info.classes.kind, info.classes.background) == (FEATURES, "distribution", 0)
    assert info.classes.names == list(CLASS_NAMES)
    for (width, height), row in zip(SIZES, rows.values(), strict=True):
        assert (row.width, row.height) == (width, height)
        row.regions.check(width, height)
        assert row.regions.class_ids.shape == (len(row.regions.boxes), len(CLASS_NAMES))
        assert np.allclose(row.regions.class_probs.astype(np.float32).sum(1), 1, atol=2e-3)
        assert (np.diff(row.regions.class_probs.astype(np.float32)) <= 0).all(), "most likely first"


def test_the_bytes_do_not_depend_on_the_number_of_workers(folder, weights, regions, tmp_path):
    out = tmp_path / "out"
    extract(folder, "--out", out, "--workers", 2, "--partition-size", 4, weights=weights)
    assert contents(out) == contents(regions)


def test_pictures_are_decoded_while_the_network_works(tmp_path, monkeypatch):
    """All of different shapes: no batch is full before the last picture is known, and still few wait decoded."""
    count = 40
    for number in range(count):
        noise(number, (40 + number, 50)).save(tmp_path / f"{number:012}.png")
    decoded, described, seen = [], [], []

    def decode(source, opened):
        decoded.append(source.image_id)
        return opened.pixels()

    class Detector:
        feature_size, class_names, attribute_names, background = 2, ("nothing", "toy"), (), 0

        def detect(self, pictures, boxes=None):
            seen.append(len(decoded) - len(described))
            described.extend(pictures)
            boxes, ones = np.array([[0, 0, 9, 9]], np.float32), np.ones((1, 2), np.float32)
            return [Detections(boxes, ones, ones / 2, None) for _ in pictures]

    monkeypatch.setattr(images, "decode", decode)
    source, _ = images.recognise(tmp_path, "auto", None)
    pictures = PicturePartition(list(source.sources()), [], 0)
    stage = ExtractStage((source,), "toy", (), "1", regions_info(Detector(), None), None, None, 8, count, 0)
    stage.extract(Detector(), pictures, Part(tmp_path / "out", 0))
    assert len(described) == count
    assert max(seen) <= 2 * DECODERS + 2, "those that are ahead, and the picture itself"


@pytest.mark.slow
def test_ray_writes_the_same_bytes(folder, weights, regions, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    out = tmp_path / "out"
    options = ("--engine", "ray", "--workers", 2, "--partition-size", 4)
    extract(folder, "--out", out, *options, weights=weights)
    assert contents(out) == contents(regions)


def test_neighbours_in_the_batch_and_the_part_change_nothing(folder, weights, regions, tmp_path):
    out = tmp_path / "out"
    extract(folder, "--out", out, "--workers", 1, "--batch-size", 1, "--partition-size", 100, weights=weights)
    for image_id, row in rows_of(out).items():
        other = rows_of(regions)[image_id]
        assert np.allclose(row.regions.boxes, other.regions.boxes, atol=1e-3)
        assert np.allclose(row.regions.features, other.regions.features, atol=1e-2)


def test_hostile_pictures_are_rejects_and_the_others_are_not_harmed(folder, weights, regions, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in folder.iterdir():
        (pictures / path.name).write_bytes(path.read_bytes())
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "page.png").write_bytes(b"<html>404</html>")
    noise(0, (2, 2)).save(pictures / "tiny.gif")
    stream = io.BytesIO()
    noise(0, (80, 60)).save(stream, "JPEG")
    (pictures / "cut.jpg").write_bytes(stream.getvalue()[:-900])
    (pictures / "sub").mkdir()
    noise(0, (80, 60)).save(pictures / "sub/000000000003.jpg")
    noise(0, (1600, 16)).save(pictures / "wide.png")
    noise(0, (6000, 16)).save(pictures / "line.png")
    out = tmp_path / "out"
    refused = extract(pictures, "--out", out, "--workers", 1, weights=weights, code=1)
    assert "6 of 16 rows were rejected" in str(refused.exception)
    reasons = {Path(reject["source"]).name: reject["reason"] for reject in rejects_of(out)}
    assert reasons.pop("cut.jpg").startswith("damaged or cut off")
    assert reasons == {
        "empty.jpg": "an empty file",
        "page.png": "no picture, or of an unknown format",
        "tiny.gif": "a side of less than 16 pixels",
        "line.png": "a side more than 100 times as long as the other",
        "000000000003.jpg": "its image id occurred before",
    }
    rows, expected = rows_of(out), rows_of(regions)
    assert rows.keys() == expected.keys() | {"wide"}
    for image_id, row in expected.items():
        assert np.allclose(row.regions.features, rows[image_id].regions.features, atol=1e-2)


def test_tars_are_read_in_place(folder, weights, regions, tmp_path):
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for number in range(len(SIZES)):
            for name, content in (
                (f"{number:05}.png", (folder / f"{number:012}.png").read_bytes()),
                (f"{number:05}.json", json.dumps({"url": str(number)}).encode()),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    out = tmp_path / "out"
    extract(tmp_path / "00000.tar", "--out", out, "--workers", 1, "--partition-size", 4, weights=weights)
    assert [part.read_bytes() for part in parts_of(out)] == [part.read_bytes() for part in parts_of(regions)]


def test_a_rerun_with_other_weights_is_refused(folder, weights, regions, tmp_path):
    other = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    save_file(build_network().state_dict(), other, {"class_names": json.dumps(CLASS_NAMES)})
    refused = extract(folder, "--out", regions, "--workers", 1, "--partition-size", 4, weights=other, code=1)
    assert "detector:" in str(refused.exception)


def test_settings_of_the_weights_are_part_of_the_version(tmp_path):
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    state = detectors.get(name, weights="random")._network.state_dict()
    versions = []
    for number, metadata in enumerate(({}, {"settings": '{"min_size": 64}'})):
        path = tmp_path / f"{number}.safetensors"
        save_file({key: value.bfloat16() for key, value in state.items()}, path, metadata)
        versions.append(detectors.get(name, weights=str(path)).version)
    assert versions[0] != versions[1]


def test_fewer_classes_are_kept_on_request(folder, weights, tmp_path):
    for top_k, kind in ((3, "top-k"), (1, "argmax")):
        out = tmp_path / kind
        extract(folder, "--out", out, "--workers", 1, "--top-k", top_k, weights=weights)
        assert RegionsInfo.from_file(parts_of(out)[0]).classes.kind == kind
        assert {row.regions.class_ids.shape[1] for row in rows_of(out).values()} == {top_k}


def test_previews_have_the_boxes_of_the_first_pictures(folder, weights, regions, tmp_path):
    out = tmp_path / "out"
    extract(folder, "--out", out, "--workers", 1, "--partition-size", 4, "--preview", 6, weights=weights)
    names = sorted(path.name for path in (out / "preview").iterdir())
    assert names == [f"{number // 4:05}-{number % 4:04}-{number}.jpg" for number in range(6)]
    for number, name in enumerate(names):
        drawn = np.asarray(Image.open(out / "preview" / name), int)
        plain = np.asarray(Image.open(folder / f"{number:012}.png").convert("RGB"), int)
        changed = np.abs(drawn - plain).sum(2) > 60
        x1, _, x2, y2 = np.clip(rows_of(out)[str(number)].regions.boxes[0].round(), 1, None).astype(int)
        assert changed[min(y2, len(plain)) - 1, x1 : x2 - 1].mean() > 0.5, "the lower edge of a box"


# ---------------------------------------------------------------------------------------------------------- given boxes


def test_boxes_of_an_earlier_run_are_described_as_they_were(folder, weights, regions, tmp_path):
    out = tmp_path / "out"
    extract(folder, "--out", out, "--workers", 1, "--boxes", regions, weights=weights)
    expected = rows_of(regions)
    for image_id, row in rows_of(out).items():
        assert np.array_equal(row.regions.boxes, expected[image_id].regions.boxes)
        assert np.allclose(row.regions.features, expected[image_id].regions.features, atol=1e-2)


def test_given_boxes_that_cannot_be_are_rejects(folder, weights, tmp_path):
    boxes = {str(number): [[0, 0, 40, 30], [5, 5, 20, 20]] for number in range(len(SIZES))}
    boxes |= {"1": [[0, 0, 99, 30]], "2": [[3, 3, 3, 9]], "3": [], "4": "none", "5": [[0, 0, 5, float("nan")]]}
    boxes |= {"7": [[0, 0, 10**400, 5]], "8": [[80, 5, 80.9, 30]]}
    boxes["0"].append([79.5, 59.5, 80.9, 60.9])
    del boxes["6"]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    out = tmp_path / "out"
    options = ("--boxes", tmp_path / "boxes.json", "--max-rejects", 1)
    extract(folder, "--out", out, "--workers", 1, *options, weights=weights)
    assert [reject["reason"] for reject in rejects_of(out)] == [
        "no boxes are given for it",
        "given boxes: a box outside the 60 x 80 image",
        "given boxes: an empty box",
        "given boxes: 0 boxes, expected 1 to 100",
        "given boxes: 0 boxes, expected 1 to 100",
        "given boxes: NaN or infinity in the boxes",
        "given boxes: 0 boxes, expected 1 to 100",
        "given boxes: a box that holds nothing of the 80 x 60 image",
    ]
    (row,) = rows_of(out).values()
    assert np.array_equal(row.regions.boxes, np.float32(boxes["0"]))


def test_coco_instances_and_vcr_metadata_give_boxes(folder, weights, tmp_path):
    boxes = [[10, 5, 20, 30], [2, 2, 40, 40]]
    annotations = [
        {"image_id": number, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        for number in range(len(SIZES))
        for x1, y1, x2, y2 in boxes
    ]
    crowd = {"image_id": 0, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    instances = {"info": {}, "images": [], "annotations": [*annotations, crowd]}
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    metadata = tmp_path / "metadata/movie"
    metadata.mkdir(parents=True)
    pictures = tmp_path / "pictures/movie"
    pictures.mkdir(parents=True)
    for number, size in enumerate(SIZES):
        noise(number, size).save(pictures / f"{number}.jpg")
        scored = [[*box, 0.9] for box in boxes]
        (metadata / f"{number}.json").write_text(json.dumps({"boxes": scored, "names": ["a", "b"]}))
    coco, vcr = tmp_path / "coco", tmp_path / "vcr"
    extract(folder, "--out", coco, "--workers", 1, "--boxes", tmp_path / "instances.json", weights=weights)
    options = ("--boxes", tmp_path / "metadata", "--image-ids", "path")
    extract(tmp_path / "pictures", "--out", vcr, "--workers", 1, *options, weights=weights)
    assert list(rows_of(coco)) == [str(number) for number in range(len(SIZES))]
    assert list(rows_of(vcr)) == [f"movie/{number}.jpg" for number in range(len(SIZES))]
    for row in (*rows_of(coco).values(), *rows_of(vcr).values()):
        assert row.regions.boxes.tolist() == boxes


# ------------------------------------------------------------------------------------------------------------ detectors


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


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """torchvision's smallest model with weights of a file, made to look at small pictures."""
    path = tmp_path_factory.mktemp("mobile") / "weights.safetensors"
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    network = detectors.get(name, weights="random", seed=3)._network
    metadata = {"class_names": json.dumps(["none", *map(str, range(90))]), "settings": '{"min_size": 64}'}
    save_file(network.state_dict(), path, metadata)
    return detectors.get(name, weights=str(path), min_boxes=4, max_boxes=8)


def test_torchvision_models_load_from_a_file_with_its_names_and_settings(mobile):
    assert mobile.class_names[:2] == ("none", "0")
    assert mobile.feature_size == 1024
    (found,) = mobile.detect([np.asarray(noise(0, (96, 64)))])
    assert found.features.shape == (len(found.boxes), 1024)
    assert 4 <= len(found.boxes) <= 8
    assert np.allclose(found.class_probs.sum(1), 1, atol=1e-5)


def test_images_of_different_sizes_give_what_each_gives_alone(mobile):
    pictures = [np.asarray(noise(number, size)) for number, size in enumerate([(96, 64), (64, 80), (96, 64)])]
    for found, picture in zip(mobile.detect(pictures), pictures, strict=True):
        (alone,) = mobile.detect([picture])
        assert np.allclose(found.boxes, alone.boxes, atol=1e-3)
        assert np.allclose(found.features, alone.features, atol=1e-4)
        assert np.allclose(found.class_probs, alone.class_probs, atol=1e-5)


def test_a_thin_picture_changes_nothing_of_those_that_follow(weights):
    first, second = (detectors.get("toyworld", weights=str(weights)) for _ in range(2))
    second.detect([np.asarray(noise(0, (640, 72)))])
    picture = np.asarray(noise(1, (80, 60)))
    (expected,), (found,) = first.detect([picture]), second.detect([picture])
    assert np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.features, expected.features)


def test_given_boxes_keep_their_order_and_features(mobile):
    picture = np.asarray(noise(0, (96, 64)))
    (found,) = mobile.detect([picture])
    (described,) = mobile.detect([picture], [found.boxes[::-1].copy()])
    assert np.array_equal(described.boxes, found.boxes[::-1])
    assert np.allclose(described.features, found.features[::-1], atol=1e-4)


def test_half_precision_is_close(weights):
    exact, half = (detectors.get("toyworld", weights=str(weights), precision=p) for p in ("fp32", "bf16"))
    picture, boxes = np.asarray(noise(0, (96, 64))), np.array([[0, 0, 50, 50], [20, 10, 90, 60]], np.float32)
    (a,), (b,) = exact.detect([picture], [boxes]), half.detect([picture], [boxes])
    assert (a.features.dtype, b.features.dtype) == (np.float32, np.float32)
    assert 0 < np.abs(a.features - b.features).max() < 0.1 * np.abs(a.features).max()


# ------------------------------------------------------------------------------------------------------------ toy world


def test_recall_counts_covered_toys_and_right_classes():
    scene = sample_scene(1, np.random.default_rng(0), (3, 3))
    boxes = np.float32([[t.box.x1, t.box.y1, t.box.x2, t.box.y2] for t in scene.things])
    boxes[2] += 200
    right = [CLASS_NAMES.index(t.shape) for t in scene.things]
    right[1] = 1 + right[1] % (len(CLASS_NAMES) - 1)
    ids = np.array([[0, number] for number in right], np.int16)
    probabilities = np.tile(np.float16([0.6, 0.4]), (3, 1))
    row = RegionsRow("1", 320, 240, Regions(boxes, np.zeros((3, 4), np.float16), ids, probabilities))
    classes = Classes(kind="top-k", count=len(CLASS_NAMES), background=0, names=list(CLASS_NAMES))
    assert recall(scene, row, RegionsInfo(4, classes, None)) == (2, 1)


def run(*command, cwd):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def train_and_extract(folder, *, images, steps, batch_size):
    run("pipeline.toyworld", "--images", images, "--out", "world", "--workers", 1, cwd=folder)
    options = ("--steps", steps, "--batch-size", batch_size)
    run("pipeline.toyworld.train_detector", "--out", "detector.safetensors", *options, cwd=folder)
    options = ("--detector", "toyworld", "--weights", "detector.safetensors", "--workers", 1)
    run("pipeline.extract", "world/captions.json", "--root", "world/images", *options, "--out", "regions", cwd=folder)
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


# ------------------------------------------------------------------------------------------------------------ real data


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
