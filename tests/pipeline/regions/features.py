"""Images with regions, and the published formats that hold them."""

import base64
import io

import numpy as np
import pytest

from pipeline.execution.parts import Reject
from pipeline.regions.formats import FORMATS
from pipeline.regions.formats.tsv import LXMERT

D, CLASSES = 8, 5


def make_image(number, n=None):
    """Arrays of an image in pixels, float32 as extractors write them."""
    values = np.random.default_rng(number)
    n = n if n is not None else 1 + number % 7
    low = values.uniform(0, 50, (n, 2))
    return {
        "image_id": f"img.{number}/é",
        "width": 100,
        "height": 90,
        "boxes": np.concatenate([low, low + values.uniform(1, 35, (n, 2))], axis=1).astype(np.float32),
        "features": values.standard_normal((n, D)).astype(np.float32),
        "ids": values.integers(0, 1600, n),
        "conf": values.random(n).astype(np.float32),
        "attr_ids": values.integers(0, 400, n),
        "attr_conf": values.random(n).astype(np.float32),
        "probs": values.dirichlet(np.ones(CLASSES), n).astype(np.float32),
    }


def code(array, dtype):
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()


def tsv_fields(image):
    return {
        "img_id": image["image_id"],
        "img_h": str(image["height"]),
        "img_w": str(image["width"]),
        "objects_id": code(image["ids"], "<i8"),
        "objects_conf": code(image["conf"], "<f4"),
        "attrs_id": code(image["attr_ids"], "<i8"),
        "attrs_conf": code(image["attr_conf"], "<f4"),
        "num_boxes": str(len(image["boxes"])),
        "boxes": code(image["boxes"], "<f4"),
        "features": code(image["features"], "<f4"),
    }


def tsv_line(image, **changes):
    fields = tsv_fields(image) | changes
    return "\t".join(fields[name] for name in LXMERT) + "\n"


def npz_arrays(image):
    return {
        "image_id": np.array(image["image_id"]),
        "image_width": np.array(image["width"]),
        "image_height": np.array(image["height"]),
        "num_boxes": np.array(len(image["boxes"])),
        "bbox": image["boxes"],
        "features": image["features"],
        "cls_prob": image["probs"],
    }


def write_npz(folder, images, save=np.savez):
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        save(folder / f"{number:03d}.npz", **npz_arrays(image))
    return folder


def read_all(format, source, size=3, class_names=None):
    reader = FORMATS[format]
    info = reader.inspect([source], class_names)
    rows = []
    for partition in reader.partitions(reader.files([source]), size):
        rows.extend(reader.read(partition, info))
    return info, rows


def assert_row(row, image):
    assert (row.image_id, row.width, row.height) == (image["image_id"], image["width"], image["height"])
    np.testing.assert_array_equal(row.regions.boxes, image["boxes"], strict=True)
    np.testing.assert_array_equal(row.regions.features, image["features"].astype(np.float16), strict=True)


IMAGES = [make_image(number) for number in range(11)]
GOOD = make_image(3, 4)
BOXES = GOOD["boxes"]


def with_box(image, *box):
    boxes = image["boxes"].copy()
    boxes[1] = box
    return image | {"boxes": boxes}


def with_feature(value):
    features = GOOD["features"].copy()
    features[2, 3] = value
    return GOOD | {"features": features}


IMAGE_REJECTS = [
    pytest.param(make_image(1, 101), "101 boxes", id="101 boxes"),
    pytest.param(make_image(1, 0), "0 boxes", id="0 boxes"),
    pytest.param(with_feature(np.nan), "NaN or infinity in the features", id="NaN"),
    pytest.param(with_feature(np.inf), "NaN or infinity in the features", id="infinity"),
    pytest.param(with_feature(1e5), "NaN or infinity in the features", id="too large for float16"),
    pytest.param(with_box(GOOD, 1, 1, np.nan, 5), "NaN or infinity in the boxes", id="NaN in a box"),
    pytest.param(with_box(GOOD, 1, 1, 102, 5), "outside", id="right of the image"),
    pytest.param(with_box(GOOD, -2, 1, 10, 5), "outside", id="left of the image"),
    pytest.param(with_box(GOOD, 5, 1, 5, 5), "empty box", id="empty box"),
    pytest.param(GOOD | {"width": 0}, "not positive", id="no width"),
    pytest.param(GOOD | {"image_id": ""}, "no image_id", id="no image id"),
    pytest.param(GOOD | {"features": GOOD["features"][:3]}, "wrong size", id="features of three boxes"),
    pytest.param(GOOD | {"features": GOOD["features"][:, :7]}, "wrong size", id="other feature size"),
]


def tsv_reject(tmp_path, line):
    path = tmp_path / "features.tsv"
    first = tsv_line(IMAGES[0]).encode()
    path.write_bytes(first + line + tsv_line(IMAGES[1]).encode() if line.endswith(b"\n") else first + line)
    _, rows = read_all("butd-tsv", path, 100)
    assert [isinstance(row, Reject) for row in rows] == [False, True, False][: len(rows)]
    assert (rows[1].source, rows[1].position) == (str(path), f"byte {len(first)}")
    return rows[1].reason


def npz_reject(tmp_path, data):
    write_npz(tmp_path, IMAGES[:3])
    (tmp_path / "001.npz").write_bytes(data)
    _, rows = read_all("vilbert-npz", tmp_path, 100)
    assert [isinstance(row, Reject) for row in rows] == [False, True, False]
    assert (rows[1].source, rows[1].position) == (str(tmp_path / "001.npz"), "file")
    return rows[1].reason


def npz_bytes(arrays, save=np.savez):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()
