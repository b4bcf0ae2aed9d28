import base64
import io
import itertools
import json
import pickle

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parsers.command import InputError
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.execution.parts import Reject
from pipeline.files import expand
from pipeline.regions.formats import FORMATS, recognise
from pipeline.regions.formats.tsv import LXMERT, REFERENCE, VQA
from pipeline.regions.rows import most_likely
from pipeline.regions.stage import RegionsStage
from shards.manifest import Classes
from shards.regions.table import RegionsInfo, read_rows, regions_table, write_regions
from shards.regions.tsv import BOTTOM_UP_ATTENTION
from shards.stage_folder import parts_of

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


# -------------------------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("size", [1, 2, 100])
def test_butd_tsv_comes_through(tmp_path, size):
    path = tmp_path / "features.tsv"
    path.write_text("".join(map(tsv_line, IMAGES)))
    assert recognise([path])[0] == "butd-tsv"
    info, rows = read_all("butd-tsv", path, size)
    assert info == RegionsInfo(D, Classes(kind="argmax", count=None, background=None, names=None), None)
    for row, image in zip(rows, IMAGES, strict=True):
        assert_row(row, image)
        assert row.regions.class_ids.tolist() == [[i] for i in image["ids"]]
        np.testing.assert_array_equal(row.regions.class_probs[:, 0], image["conf"].astype(np.float16))
        assert row.attribute_ids.tolist() == [[i] for i in image["attr_ids"]]
        np.testing.assert_array_equal(row.attribute_probs[:, 0], image["attr_conf"].astype(np.float16))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_vilbert_npz_comes_through(tmp_path, save):
    folder = write_npz(tmp_path / "features", IMAGES, save)
    assert recognise([folder])[0] == recognise([folder / "000.npz"])[0] == "vilbert-npz"
    info, rows = read_all("vilbert-npz", folder)
    assert info == RegionsInfo(D, Classes(kind="distribution", count=CLASSES, background=0, names=None), None)
    for row, image in zip(rows, IMAGES, strict=True):
        assert_row(row, image)
        probabilities = row.regions.class_probs
        assert (np.diff(probabilities.astype(np.float32), axis=1) <= 0).all(), "most likely first"
        back = np.zeros_like(probabilities)
        np.put_along_axis(back, row.regions.class_ids.astype(np.int64), probabilities, 1)
        np.testing.assert_array_equal(back, image["probs"].astype(np.float16), strict=True)


def test_vilbert_npz_without_classes_says_so(tmp_path):
    for number, image in enumerate(IMAGES):
        arrays = npz_arrays(image)
        del arrays["cls_prob"]
        np.savez(tmp_path / f"{number:03d}.npz", **arrays)
    info, rows = read_all("vilbert-npz", tmp_path)
    assert info.classes.kind == "none"
    assert all(row.regions.class_ids is row.regions.class_probs is None for row in rows)


def test_class_names_are_kept_and_must_fit(tmp_path):
    folder = write_npz(tmp_path / "features", IMAGES[:1])
    info, _ = read_all("vilbert-npz", folder, class_names=["a", "b", "c", "d"])
    assert info.classes.names == ["background", "a", "b", "c", "d"]
    with pytest.raises(InputError, match="3 class names"):
        read_all("vilbert-npz", folder, class_names=["a", "b", "c"])


@pytest.mark.parametrize("format", ["butd-tsv", "vilbert-npz"])
def test_the_stage_writes_what_the_format_reads(tmp_path, format):
    source = tmp_path / "features.tsv" if format == "butd-tsv" else write_npz(tmp_path / "npz", IMAGES)
    if format == "butd-tsv":
        source.write_text("".join(map(tsv_line, IMAGES)))
    reader = FORMATS[format]
    info, rows = read_all(format, source)
    stage = RegionsStage(tuple(reader.files([source])), format, info, 4)
    report = run_stage(stage, tmp_path / "out", Engine(), max_rejects=0, overwrite=False)
    assert report.statistics == {"rows": 11, "images": 11, "boxes": sum(len(image["boxes"]) for image in IMAGES)}
    stored = []
    for part in parts_of(tmp_path / "out"):
        assert RegionsInfo.from_file(part) == info
        stored += list(read_rows(pq.read_table(part), D))
    for found, row, image in zip(stored, rows, IMAGES, strict=True):
        assert_row(found, image)
        for name in ("class_ids", "class_probs"):
            np.testing.assert_array_equal(getattr(found.regions, name), getattr(row.regions, name), strict=True)
        for name in ("attribute_ids", "attribute_probs"):
            a, b = getattr(found, name), getattr(row, name)
            assert a is b is None or np.array_equal(a, b)


def test_rejects_of_the_stage_name_the_line(tmp_path):
    path = tmp_path / "features.tsv"
    lines = [*map(tsv_line, IMAGES[:3]), "not a line\n", tsv_line(IMAGES[4])]
    path.write_text("".join(lines))
    info, _ = read_all("butd-tsv", path)
    run_stage(RegionsStage((path,), "butd-tsv", info, 99), tmp_path / "out", Engine(), max_rejects=1, overwrite=False)
    (line,) = (tmp_path / "out" / "rejects" / "part-00000.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "source": str(path),
        "position": f"byte {len(''.join(lines[:3]).encode())}",
        "reason": "wrong number of columns: 1, expected 10",
    }


# ---------------------------------------------------------------------------------------------------- byte ranges


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=30), st.integers(1, 40), st.booleans(), st.sampled_from("\n\r")
)
@example([0, 0, 0], 1, True, "\n")
@example([300, 0, 0, 0], 1, False, "\n")
@example([0, 300, 0, 300], 1, True, "\n")
def test_byte_ranges_give_every_line_once(tmp_path_factory, lengths, size, ends, end):
    lines = [f"{number}:{'x' * length}" for number, length in enumerate(lengths)]
    end = "\r\n" if end == "\r" else end
    data = end.join(lines) + (end if ends else "")
    path = tmp_path_factory.mktemp("t") / "lines.tsv"
    path.write_bytes(data.encode())
    reader = FORMATS["butd-tsv"]
    info = RegionsInfo(D, Classes(kind="none", count=None, background=None, names=None), None)
    ranges = list(reader.partitions([path], size))
    assert (ranges[0].start, ranges[-1].end) == (0, len(data))
    assert all(a.end == b.start for a, b in itertools.pairwise(ranges))
    rows = [row for partition in ranges for row in reader.read(partition, info)]
    starts = np.cumsum([0, *(len(line) + len(end) for line in lines[:-1])]).tolist()
    assert [row.position for row in rows] == [f"byte {start}" for start in starts]


# ----------------------------------------------------------------------------------------------------------- rejects

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
    pytest.param(GOOD | {"image_id": ""}, "no image id", id="no image id"),
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


@pytest.mark.parametrize(("image", "reason"), IMAGE_REJECTS)
def test_unsound_images_are_rejected_by_both_formats(tmp_path, image, reason):
    assert reason in tsv_reject(tmp_path, tsv_line(image).encode())
    folder = tmp_path / "npz"
    folder.mkdir()
    assert reason in npz_reject(folder, npz_bytes(npz_arrays(image)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"features": "****"}, "features is not valid base64"),
        ({"boxes": tsv_fields(GOOD)["boxes"][:-1]}, "boxes is not valid base64"),
        ({"boxes": base64.b64encode(b"12345").decode()}, "boxes is not a whole number of float32"),
        ({"num_boxes": "3"}, "wrong size"),
        ({"num_boxes": "-4"}, "num_boxes is negative"),
        ({"num_boxes": "four"}, "not a whole number"),
        ({"img_w": "1e2"}, "not a whole number"),
        ({"img_w": "640.5"}, "not a whole number"),
        ({"img_h": ""}, "not a whole number"),
        ({"objects_id": code([1, 2, 3], "<i8")}, "objects_id has the wrong size"),
        ({"objects_id": code([1, 2, 3, -1], "<i8")}, "id outside"),
        ({"objects_id": code([1, 2, 3, 1 << 15], "<i8")}, "id outside"),
        ({"attrs_id": code([1, 2, 3, -1], "<i8")}, "id outside"),
        ({"objects_conf": code([0.5, 0.5, 0.5, -0.5], "<f4")}, "negative"),
        ({"objects_conf": code([0.5, 0.5, 0.5, 1.5], "<f4")}, "more than 1.001"),
        ({"objects_conf": code([0.5, 0.5, 0.5, np.nan], "<f4")}, "not finite"),
        ({"features": "é"}, ""),
    ],
)
def test_a_bad_field_of_a_tsv_line_is_rejected(tmp_path, changes, reason):
    assert reason in tsv_reject(tmp_path, tsv_line(GOOD, **changes).encode())


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan])
def test_a_bad_attribute_probability_is_rejected(tmp_path, value):
    tsv_reject(tmp_path, tsv_line(GOOD, attrs_conf=code([0.5, 0.5, 0.5, value], "<f4")).encode())


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
def test_a_truncated_last_line_is_rejected(tmp_path, share):
    line = tsv_line(GOOD).encode()
    assert tsv_reject(tmp_path, line[: int(len(line) * share)])


def test_a_line_that_is_no_text_is_rejected(tmp_path):
    assert tsv_reject(tmp_path, b"\xff\t" * 9 + b"\n") == "invalid UTF-8"
    assert tsv_reject(tmp_path, b"\n").startswith("wrong number of columns")
    assert tsv_reject(tmp_path, b"a\tb\n").startswith("wrong number of columns")


def changed(probs, value):
    probs = probs.copy()
    probs[1, 1] = value
    return probs


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cls_prob": changed(GOOD["probs"], -0.1)}, "negative"),
        ({"cls_prob": changed(GOOD["probs"], np.nan)}, "not finite"),
        ({"cls_prob": GOOD["probs"] * 0.9}, "do not sum to 1"),
        ({"cls_prob": GOOD["probs"] * 1.1}, "do not sum to 1"),
        ({"cls_prob": GOOD["probs"][:, :4]}, "cls_prob"),
        ({"cls_prob": GOOD["probs"][:3]}, "cls_prob"),
        ({"num_boxes": np.array(3)}, "wrong sizes"),
        ({"bbox": GOOD["boxes"][:, :3]}, "wrong sizes"),
        ({"image_id": np.array([{}], object)}, "without pickles"),
    ],
)
def test_a_bad_array_of_an_npz_is_rejected(tmp_path, changes, reason):
    assert reason in npz_reject(tmp_path, npz_bytes(npz_arrays(GOOD) | changes))


@pytest.mark.parametrize("name", list(npz_arrays(GOOD)))
def test_a_missing_array_is_named(tmp_path, name):
    arrays = npz_arrays(GOOD)
    del arrays[name]
    assert name in npz_reject(tmp_path, npz_bytes(arrays))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"text", npz_bytes(npz_arrays(GOOD))[:-30]])
def test_a_file_that_is_no_npz_is_rejected(tmp_path, data):
    assert "not a readable .npz" in npz_reject(tmp_path, data)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"image_width": np.array([100, 100])}, id="two widths"),
        pytest.param({"cls_prob": GOOD["probs"].astype(str)}, id="probabilities as text"),
    ],
)
def test_an_array_of_another_kind_is_rejected(tmp_path, changes):
    npz_reject(tmp_path, npz_bytes(npz_arrays(GOOD) | changes))


def test_an_npy_with_the_name_of_an_npz_is_rejected(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    npz_reject(tmp_path, stream.getvalue())


def test_a_damaged_compressed_npz_is_rejected(tmp_path):
    info = RegionsInfo(D, Classes(kind="distribution", count=CLASSES, background=0, names=None), None)
    sound = npz_bytes(npz_arrays(GOOD), np.savez_compressed)
    for position in range(len(sound)):
        data = bytearray(sound)
        data[position] ^= 0xFF
        (tmp_path / "a.npz").write_bytes(bytes(data))
        assert len(list(FORMATS["vilbert-npz"].read([tmp_path / "a.npz"], info))) == 1


# --------------------------------------------------------------------------------------------------------- recognise


def test_sources_of_no_known_format_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        expand([tmp_path / "missing"])
    (tmp_path / "a.tsv").write_text("a\tb\n")
    for source in (tmp_path, tmp_path / "a.tsv"):
        with pytest.raises(InputError, match=r"--format \(butd-tsv, ernie-vil-tsv, vilbert-npz, "):
            recognise([source])
    with pytest.raises(InputError, match="no line with the tab-separated columns img_id"):
        FORMATS["butd-tsv"].inspect([tmp_path / "a.tsv"], None)
    (tmp_path / "a.npz").write_text("text")
    with pytest.raises(InputError, match=r"no \.npz or \.npy file with the arrays"):
        FORMATS["vilbert-npz"].inspect([tmp_path], None)


# -------------------------------------------------------------------------------------------- the other published forms


def original_line(image):
    fields = tsv_fields(image)
    return "\t".join(fields[name] for name in BOTTOM_UP_ATTENTION) + "\n"


def test_the_original_six_columns_come_through(tmp_path):
    path = tmp_path / "features.tsv"
    path.write_text("".join(map(original_line, IMAGES)))
    assert recognise([path])[0] == "butd-tsv"
    info, rows = read_all("butd-tsv", path)
    assert info.classes.kind == "none"
    for row, image in zip(rows, IMAGES, strict=True):
        assert_row(row, image)


def ernie_line(columns, image, **values):
    fields = dict.fromkeys(columns, "0") | tsv_fields(image) | values
    return "\t".join(fields[name] for name in columns) + "\n"


def test_ernie_vils_vqa_is_known_by_its_questions(tmp_path):
    path = tmp_path / "vqa.tsv"
    path.write_text("".join(ernie_line(VQA, im, question_id=f"q{n}", question="why?") for n, im in enumerate(IMAGES)))
    assert recognise([path])[0] == "ernie-vil-tsv"
    _, rows = read_all("ernie-vil-tsv", path)
    for n, (row, image) in enumerate(zip(rows, IMAGES, strict=True)):
        assert_row(row, image | {"image_id": f"q{n}"})


def test_ernie_vils_refcoco_is_known_by_its_place_and_keeps_the_gold_boxes(tmp_path):
    path = tmp_path / "refcoco.tsv"
    lines = [
        ernie_line(REFERENCE, im, expression="a dog", num_boxes=str(len(im["boxes"]) - 1), num_gold="1")
        for im in IMAGES[1:4]
    ]
    path.write_text("".join(lines))
    assert recognise([path])[0] == "ernie-vil-tsv"
    _, rows = read_all("ernie-vil-tsv", path)
    starts = np.cumsum([0, *(len(line.encode()) for line in lines)])
    for row, image, start in zip(rows, IMAGES[1:4], starts, strict=False):
        assert_row(row, image | {"image_id": f"refcoco.tsv@{start}"})


def test_a_compressed_file_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(InputError, match="gunzip"):
        FORMATS["ernie-vil-tsv"].files([tmp_path / "refcoco.tsv.gz"])


def record(image, layout):
    fields = {"image_id": image["image_id"], "num_boxes": len(image["boxes"])}
    if layout == "base64":
        sizes = {"image_w": "100", "image_h": "90"}
        arrays = {"boxes": image["boxes"], "features": image["features"], "cls_prob": image["probs"]}
        return fields | sizes | {name: code(array, "<f4") for name, array in arrays.items()}
    return fields | {"image_w": 100, "image_h": 90, "boxes": image["boxes"], "features": image["features"]}


def write_lmdb(path, values):
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return path


@pytest.mark.parametrize("layout", ["base64", "arrays"])
@pytest.mark.parametrize("protocol", range(6))
def test_both_lmdb_layouts_come_through(tmp_path, layout, protocol):
    keys = [b"%03d" % number for number in range(len(IMAGES))]
    values = [pickle.dumps(record(image, layout), protocol) for image in IMAGES]
    path = write_lmdb(tmp_path / "x.lmdb", dict(zip(keys, values, strict=True)) | {b"keys": pickle.dumps(keys)})
    assert recognise([path])[0] == "vilbert-lmdb"
    info, rows = read_all("vilbert-lmdb", path)
    assert info.classes.kind == ("distribution" if layout == "base64" else "none")
    for row, image in zip(rows, IMAGES, strict=True):
        assert_row(row, image)


def test_a_bad_record_is_rejected_with_its_key_and_a_cut_lmdb_refused(tmp_path):
    good = pickle.dumps(record(IMAGES[3], "arrays"))
    bad = {b"a": good[:50], b"b": pickle.dumps([1]), b"c": pickle.dumps({"boxes": 1}), b"e": b""}
    path = write_lmdb(tmp_path / "x.lmdb", bad | {b"d": good})
    _, rows = read_all("vilbert-lmdb", path, 2)
    assert [row.position if isinstance(row, Reject) else row.image_id for row in rows] == [
        *("key a", "key b", "key c", IMAGES[3]["image_id"], "key e")
    ]
    data = path / "data.mdb"
    data.write_bytes(data.read_bytes()[:-4096])
    with pytest.raises(InputError, match="is cut off"):
        read_all("vilbert-lmdb", path)
    data.write_bytes(b"text")
    with pytest.raises(InputError, match="cannot be read as an LMDB"):
        read_all("vilbert-lmdb", path)


def test_npy_dicts_come_through(tmp_path):
    for number, image in enumerate(IMAGES):
        fields = npz_arrays(image) | {"image_id": image["image_id"], "num_boxes": len(image["boxes"])}
        np.save(tmp_path / f"{number:03d}.npy", fields | {"image_width": 100, "image_height": 90}, allow_pickle=True)
    assert recognise([tmp_path])[0] == "vilbert-npz"
    info, rows = read_all("vilbert-npz", tmp_path)
    assert info.classes.kind == "distribution"
    for row, image in zip(rows, IMAGES, strict=True):
        assert_row(row, image)


@pytest.mark.parametrize("form", ["lists", "flat", "bytes"])
def test_anyones_parquet_comes_through(tmp_path, form):
    def shape(matrix):
        return {"lists": matrix.tolist(), "flat": matrix.ravel().tolist(), "bytes": matrix.tobytes()}[form]

    rows = [
        {
            **{name: image[name] for name in ("image_id", "width", "height")},
            **{name: shape(image[key]) for name, key in zip(("boxes", "features", "cls_prob"), KEYS, strict=True)},
        }
        for image in IMAGES
    ]
    rows[4]["boxes"] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=2)
    assert recognise([tmp_path])[0] == recognise([tmp_path / "a.parquet"])[0] == "parquet"
    info, found = read_all("parquet", tmp_path)
    assert (info.feature_size, info.classes.count) == (D, CLASSES)
    assert found[4] == Reject(str(tmp_path / "a.parquet"), "row 5", "no boxes")
    for row, image in zip(found[:4] + found[5:], IMAGES[:4] + IMAGES[5:], strict=True):
        assert_row(row, image)


KEYS = ("boxes", "features", "probs")


def test_our_own_table_is_read_as_it_is(tmp_path):
    folder = write_npz(tmp_path / "features", IMAGES)
    info, rows = read_all("vilbert-npz", folder, class_names=list("abcd"))
    with (tmp_path / "part-00000.parquet").open("wb") as stream:
        write_regions(stream, rows, info)
    again, found = read_all("parquet", tmp_path / "part-00000.parquet")
    assert again == info
    assert regions_table(found).equals(regions_table(rows))


def test_the_published_files_hold_the_same_regions(shared):
    regions = shared / "data" / "regions"
    expected = {row.image_id: row for row in read_all("vilbert-npz", regions / "npz")[1]}
    for format, name, count in (
        ("vilbert-lmdb", "vilbert_20.lmdb", 20),
        ("vilbert-lmdb", "vilbert_multitask_5.lmdb", 5),
        ("vilbert-npz", "npy_vilbert", 5),
    ):
        found = read_all(format, regions / name)[1]
        assert len(found) == count
        for row in found:
            other = expected[row.image_id]
            assert (row.width, row.height) == (other.width, other.height)
            np.testing.assert_array_equal(row.regions.boxes, other.regions.boxes)
            np.testing.assert_array_equal(row.regions.features, other.regions.features)
            if row.regions.class_ids is not None:
                np.testing.assert_array_equal(row.regions.class_ids, other.regions.class_ids)


@given(st.lists(st.lists(st.sampled_from([0.0, -0.0, 1e-9, 6e-8, 0.1, 0.1000001, 0.5, 1.0]), min_size=5, max_size=5)))
def test_the_most_likely_classes_come_first_and_of_equal_ones_the_first(rows):
    probabilities = np.array(rows, np.float32).reshape(-1, 5)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    for k in (None, 2):
        ids, values = most_likely(probabilities, k)
        np.testing.assert_array_equal(ids, order[:, :k].astype(np.int16), strict=True)
        expected = np.take_along_axis(probabilities, order, 1)[:, :k].astype(np.float16)
        np.testing.assert_array_equal(values, expected, strict=True)
