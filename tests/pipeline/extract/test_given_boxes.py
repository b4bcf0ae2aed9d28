"""Boxes that are given instead of found."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsers.command import InputError
from pipeline.extract.given_boxes import read_boxes
from tests.pipeline.extract.pictures import SIZES, extract, noise, rejects_of, rows_of


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
    options = ("--boxes", tmp_path / "metadata", "--id-rule", "path")
    extract(tmp_path / "pictures", "--out", vcr, "--workers", 1, *options, weights=weights)
    assert list(rows_of(coco)) == [str(number) for number in range(len(SIZES))]
    assert list(rows_of(vcr)) == [f"movie/{number}.jpg" for number in range(len(SIZES))]
    for row in (*rows_of(coco).values(), *rows_of(vcr).values()):
        assert row.regions.boxes.tolist() == boxes


def test_two_rows_of_one_image_are_refused(tmp_path):
    table = pa.table({"image_id": ["1", "2", "1"], "boxes": [[[0.0, 0, 9, 9]], [[0.0, 0, 5, 5]], [[1.0, 1, 8, 8]]]})
    pq.write_table(table, tmp_path / "boxes.parquet")
    with pytest.raises(InputError, match=r"boxes\.parquet: two rows have the image id 1"):
        read_boxes(tmp_path / "boxes.parquet")
