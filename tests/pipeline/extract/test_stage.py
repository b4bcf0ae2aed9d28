"""The stage that finds the regions of pictures."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.detectors import Detections
from pipeline.duplicates.pictures import read_hashes
from pipeline.execution.parts import Part
from pipeline.extract import images
from pipeline.extract.stage import DECODERS, ExtractStage, PicturePartition, regions_info
from pipeline.toyworld.network import CLASS_NAMES, FEATURES, build_network
from shards.regions.table import RegionsInfo
from shards.stage_folder import parts_of
from tests.pipeline.extract.pictures import SIZES, extract, noise, rejects_of, rows_of
from tests.pipeline.outputs import contents


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

    monkeypatch.setattr(images, "decode_picture", decode)
    source, _ = images.recognise_pictures(tmp_path, "auto", None)
    pictures = PicturePartition(list(source.sources()), [], 0)
    stage = ExtractStage((source,), "toy", (), "1", regions_info(Detector(), None), None, None, 8, count, 0)
    reported = []
    stage.extract(Detector(), pictures, Part(tmp_path / "out", 0, reported.append))
    assert len(described) == count
    assert reported == [1] * count, "each picture as soon as it is described"
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


def test_fewer_classes_are_kept_on_request(folder, weights, tmp_path):
    for top_k, kind in ((3, "top-k"), (1, "argmax")):
        out = tmp_path / kind
        extract(folder, "--out", out, "--workers", 1, "--top-k", top_k, weights=weights)
        assert RegionsInfo.from_file(parts_of(out)[0]).classes.kind == kind
        assert {row.regions.class_ids.shape[1] for row in rows_of(out).values()} == {top_k}


def test_every_picture_with_regions_has_a_hash(regions):
    hashes = [row for batch in read_hashes(regions) for row in batch.to_pylist()]
    assert [row["image_id"] for row in hashes] == list(rows_of(regions))
    assert all(len(row["hash"]) == 32 for row in hashes)
