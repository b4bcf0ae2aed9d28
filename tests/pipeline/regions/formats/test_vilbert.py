"""Regions as ViLBERT's extractor and converters write them, also if they are damaged or hostile."""

import io
import pickle

import lmdb
import numpy as np
import pytest

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.regions.formats import FORMATS, recognise_regions
from shards.manifest import Classes
from shards.regions.table import RegionsInfo
from tests.pipeline.regions.features import (
    CLASSES,
    GOOD,
    IMAGES,
    D,
    assert_row,
    code,
    npz_arrays,
    npz_bytes,
    npz_reject,
    read_all,
    write_npz,
)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_vilbert_npz_comes_through(tmp_path, save):
    folder = write_npz(tmp_path / "features", IMAGES, save)
    assert recognise_regions([folder])[0] == recognise_regions([folder / "000.npz"])[0] == "vilbert-npz"
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
    assert recognise_regions([path])[0] == "vilbert-lmdb"
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
    assert recognise_regions([tmp_path])[0] == "vilbert-npz"
    info, rows = read_all("vilbert-npz", tmp_path)
    assert info.classes.kind == "distribution"
    for row, image in zip(rows, IMAGES, strict=True):
        assert_row(row, image)


def read_lmdb(path, info):
    reader = FORMATS["vilbert-lmdb"]
    return [row for partition in reader.partitions([path], 3) for row in reader.read(partition, info)]


def test_a_damaged_lmdb_is_refused_and_ends_no_process(tmp_path):
    """Whatever 16 bytes of a page hold: rows, rejects, or one error that names the file."""
    values = {b"%03d" % number: pickle.dumps(record(image, "arrays")) for number, image in enumerate(IMAGES)}
    path = write_lmdb(tmp_path / "x.lmdb", values) / "data.mdb"
    info, _ = read_all("vilbert-lmdb", path)
    sound = path.read_bytes()
    refused = []
    for number in range(20):
        draw = np.random.default_rng(number)
        data = bytearray(sound)
        start = 4096 * (number % (len(sound) // 4096)) + int(draw.integers(0, 64 if number % 2 else 4080))
        data[start : start + 16] = draw.bytes(16)
        path.write_bytes(data)
        try:
            assert all(isinstance(row, Reject) or row.image_id for row in read_lmdb(path, info))
        except InputError as error:
            refused.append(str(error).startswith(str(path)))
    assert refused
    assert all(refused)


def test_a_page_beyond_the_end_of_an_lmdb_is_refused(tmp_path):
    """A long value lies in pages of its own, whose number stands behind its key. Reading it there is a SIGBUS."""
    wide = [image | {"features": np.ones((len(image["boxes"]), 4096), np.float32)} for image in IMAGES[:4]]
    values = {b"image %d" % number: pickle.dumps(record(image, "arrays")) for number, image in enumerate(wide)}
    path = write_lmdb(tmp_path / "x.lmdb", values) / "data.mdb"
    info, _ = read_all("vilbert-lmdb", path)
    data = path.read_bytes()
    start = data.index(b"image 2") + len("image 2")
    path.write_bytes(data[:start] + (1 << 20).to_bytes(8, "little") + data[start + 8 :])
    with pytest.raises(InputError, match=r"data\.mdb: (is damaged|cannot be read as an LMDB)"):
        read_lmdb(path, info)
