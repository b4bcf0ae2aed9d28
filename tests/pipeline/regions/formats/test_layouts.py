"""Regions in the layouts of VinVL, UNITER, MILVLG, MMF and bottom-up-attention's HDF5."""

import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.regions.formats import FORMATS, recognise_regions
from pipeline.regions.formats.arrays import MAX_BYTES
from tests.pipeline.regions.features import IMAGES, D, code, make_image

NAMES = [f"class {number}" for number in range(1600)]


def shares_of(image):
    """The box as VinVL and UNITER write it: shares of the image, with width and height."""
    corners = image["boxes"] / np.float32([image["width"], image["height"]] * 2)
    return np.concatenate([corners, corners[:, 2:] - corners[:, :2]], axis=1).astype(np.float32)


def read(sources, class_names=None):
    format, _ = recognise_regions(sources)
    reader = FORMATS[format]
    info = reader.inspect(sources, class_names)
    partitions = reader.partitions(reader.files(sources), 3)
    return format, info, [row for partition in partitions for row in reader.read(partition, info)]


def check(rows, images, *, atol=1e-3, ids=None):
    assert not [row for row in rows if isinstance(row, Reject)]
    for row, image, image_id in zip(rows, images, ids or [image["image_id"] for image in images], strict=True):
        assert (row.image_id, row.width, row.height) == (image_id, image["width"], image["height"])
        np.testing.assert_allclose(row.regions.boxes, image["boxes"], atol=atol)
        np.testing.assert_array_equal(row.regions.features, image["features"].astype(np.float16))


def check_classes(info, rows, images):
    assert (info.classes.kind, info.classes.count, info.classes.background) == ("argmax", 1600, None)
    for row, image in zip(rows, images, strict=True):
        assert row.regions.class_ids[:, 0].tolist() == image["ids"].tolist()
        np.testing.assert_array_equal(row.regions.class_probs[:, 0], image["conf"].astype(np.float16))


# -------------------------------------------------------------------------------------------------------------- VinVL


def vinvl_line(image, columns, **changes):
    features = np.concatenate([image["features"], shares_of(image)], axis=1)
    record = {"num_boxes": len(features), "features": code(features, "<f4"), **changes}
    fields = [json.dumps(record)] if columns == 2 else [str(record["num_boxes"]), record["features"]]
    return "\t".join([image["image_id"], *fields]) + "\n"


def labels_line(image, wrap):
    found = [
        {"class": NAMES[number], "conf": float(confidence), "rect": rect}
        for number, confidence, rect in zip(image["ids"], image["conf"], image["boxes"].tolist(), strict=True)
    ]
    return f"{image['image_id']}\t{json.dumps({'objects': found} if wrap else found)}\n"


def write(path, lines):
    path.write_text("".join(lines))
    return path


def write_sizes(folder):
    sizes = [{"height": IMAGES[0]["height"], "width": IMAGES[0]["width"]}]
    write(folder / "hw.tsv", (f"{image['image_id']}\t{json.dumps(sizes)}\n" for image in IMAGES))


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("labels", ["train.label.tsv", "predictions.tsv"])
def test_vinvl_comes_through_with_the_classes_of_its_labels(tmp_path, columns, labels):
    path = write(tmp_path / "train.feature.tsv", (vinvl_line(image, columns) for image in IMAGES))
    # The labels stand in another order, which must not matter.
    write(tmp_path / labels, (labels_line(image, labels == "predictions.tsv") for image in reversed(IMAGES)))
    format, info, rows = read([path], NAMES)
    assert (format, info.feature_size) == ("vinvl-tsv", D)
    check(rows, IMAGES)
    check_classes(info, rows, IMAGES)
    _, info, rows = read([path])
    assert info.classes.kind == "none"
    check(rows, IMAGES)


@pytest.mark.parametrize("beside", [True, False])
def test_the_sizes_of_vinvl_s_images_come_from_its_own_list_or_from_coco(tmp_path, beside):
    path = write(tmp_path / "features.tsv", (vinvl_line(image, 3) for image in IMAGES))
    sources = [path]
    if beside:
        write_sizes(tmp_path)
    else:
        images = [{"id": image["image_id"], "width": 100, "height": 90} for image in IMAGES]
        sources.insert(0, write(tmp_path / "captions.json", [json.dumps({"images": images})]))
    _, info, rows = read(sources)
    assert info.classes.kind == "none"
    check(rows, IMAGES)


def test_vinvl_without_any_sizes_is_rejected_with_what_to_do(tmp_path):
    _, _, rows = read([write(tmp_path / "features.tsv", [vinvl_line(IMAGES[0], 2)])])
    assert "give COCO's JSON of the images, or hw.tsv" in rows[0].reason


def other(image, **changes):
    return image | {name: change(image[name]) for name, change in changes.items()}


@pytest.mark.parametrize(
    ("line", "labels", "reason"),
    [
        (vinvl_line(IMAGES[3], 2, num_boxes=3), None, "wrong size"),
        (vinvl_line(IMAGES[3], 2, features="*"), None, "not valid base64"),
        (vinvl_line(IMAGES[3], 2, features=None), None, "no text"),
        ("key\t" + "[" * 100_000 + "\n", None, "neither key"),
        (vinvl_line(other(IMAGES[3], boxes=lambda boxes: boxes[:, [2, 1, 0, 3]]), 2), None, "are not those of"),
        (
            vinvl_line(IMAGES[3], 2),
            labels_line(other(IMAGES[3], boxes=lambda b: b[::-1].copy()), 0),
            "are not those of",
        ),
        (vinvl_line(IMAGES[3], 2), labels_line(IMAGES[4] | {"image_id": IMAGES[3]["image_id"]}, 0), "the features 4"),
        (vinvl_line(IMAGES[3], 2), f"{IMAGES[3]['image_id']}\t{{}}\n", "no list of objects"),
        (vinvl_line(IMAGES[3], 2), f"{IMAGES[3]['image_id']}\t[{{}}]\n", "no `rect`"),
        (vinvl_line(IMAGES[3], 2), f"{IMAGES[3]['image_id']}\t[\n", "no JSON"),
        (vinvl_line(IMAGES[3], 2), labels_line(IMAGES[3], 0).replace('"class ', '"thing '), "none of the class names"),
    ],
)
def test_a_bad_line_of_vinvl_is_rejected(tmp_path, line, labels, reason):
    path = write(tmp_path / "feature.tsv", [vinvl_line(IMAGES[0], 2), line])
    write(tmp_path / "label.tsv", [labels_line(IMAGES[0], 0), labels or labels_line(IMAGES[3], 0)])
    _, _, (good, bad) = read([path], NAMES)
    check([good], IMAGES[:1])
    assert reason in bad.reason


def test_features_without_a_box_at_their_end_are_no_vinvl(tmp_path):
    lines = [vinvl_line(image, 3, features=code(np.ones((len(image["boxes"]), 12)), "<f4")) for image in IMAGES]
    write(tmp_path / "label.tsv", (labels_line(image, 0) for image in IMAGES))
    _, _, rows = read([write(tmp_path / "feature.tsv", lines)])
    assert {row.reason for row in rows} == {"the last 6 numbers of a feature are no box with its width and height"}


def objects_line(image, wrap=True, **changes):
    found = [
        {"rect": rect, "bbox_id": place, "class": NAMES[number], "conf": float(share), "feature": code(feature, "<f4")}
        for place, (rect, number, share, feature) in enumerate(
            zip(image["boxes"].tolist(), image["ids"], image["conf"], image["features"], strict=True)
        )
    ]
    found[-1].update(changes)
    return f"{image['image_id']}\t{json.dumps({'objects': found, 'relations': None} if wrap else found)}\n"


@pytest.mark.parametrize("wrap", [True, False])
def test_objects_of_vinvl_s_detector_come_through_with_features_and_classes(tmp_path, wrap):
    path = write(tmp_path / "predictions.tsv", (objects_line(image, wrap) for image in IMAGES))
    write_sizes(tmp_path)
    format, info, rows = read([path], NAMES)
    assert (format, info.feature_size) == ("vinvl-objects-tsv", D)
    check(rows, IMAGES)
    check_classes(info, rows, IMAGES)
    _, info, rows = read([path])
    assert info.classes.kind == "none"
    check(rows, IMAGES)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (objects_line(IMAGES[3], feature="*"), "not valid base64"),
        (objects_line(IMAGES[3], feature=None), "no text"),
        (objects_line(IMAGES[3], feature=code(np.ones(D + 1), "<f4")), "differ in length"),
        (objects_line(IMAGES[3] | {"features": np.ones((4, D + 1))}), "wrong size"),
        (objects_line(IMAGES[3], rect=[1, 2, 3]), "not four numbers"),
        (objects_line(IMAGES[3], rect={}), "not four numbers"),
        (objects_line(IMAGES[3], **{"class": "thing"}), "none of the class names"),
        (objects_line(IMAGES[3], conf="high"), "no number"),
        (objects_line(IMAGES[3] | {"image_id": "other"}), "no size of the image"),
        (objects_line(IMAGES[3] | {"image_id": ""}), "no image_id"),
        ("key\t" + "[" * 100_000 + "\n", "no JSON"),
    ],
)
def test_a_bad_line_of_objects_is_rejected(tmp_path, line, reason):
    path = write(tmp_path / "predictions.tsv", [objects_line(IMAGES[0]), line])
    images = [{"id": image["image_id"], "width": 100, "height": 90} for image in IMAGES]
    sizes = write(tmp_path / "captions.json", [json.dumps({"images": images})])
    _, _, (good, bad) = read([path, sizes], NAMES)
    check([good], IMAGES[:1])
    assert reason in bad.reason


def test_keys_of_vinvl_are_ids(tmp_path):
    """A key that is a whole number written as a float is the id that captions have."""
    image = IMAGES[0] | {"image_id": "285.0"}
    sizes = write(tmp_path / "sizes.json", ['{"images": [{"id": 285, "width": 100, "height": 90}]}'])
    for line in (vinvl_line(image, 3), objects_line(image)):
        _, _, rows = read([write(tmp_path / "features.tsv", [line]), sizes])
        check(rows, [image], ids=["285"])


# ------------------------------------------------------------------------------------------------ a file for each image


def coco_images(count=5):
    return [make_image(number) | {"image_id": f"coco_val2014_{number + 1:012}"} for number in range(count)]


def uniter_arrays(image):
    return {
        "features": image["features"].astype(np.float16),
        "norm_bb": shares_of(image).astype(np.float16),
        "conf": image["conf"],
        "soft_labels": image["probs"].astype(np.float16),
    }


@pytest.mark.parametrize("by", ["id", "file_name"])
def test_uniter_comes_through_with_its_distribution_and_sizes_from_coco(tmp_path, by):
    images = coco_images()
    (tmp_path / "npz").mkdir()
    for image in images:
        np.savez_compressed(tmp_path / "npz" / f"{image['image_id']}.npz", **uniter_arrays(image))
    names = {"id": lambda number: number + 1, "file_name": lambda number: f"coco_val2014_{number + 1:012}.jpg"}
    sizes = [{by: names[by](number), "width": 100, "height": 90} for number in range(len(images))]
    captions = write(tmp_path / "captions.json", [json.dumps({"images": sizes})])
    format, info, rows = read([tmp_path / "npz", captions])
    assert (format, info.classes.kind, info.classes.background) == ("uniter-npz", "distribution", 0)
    check(rows, images, atol=0.1)
    for row, image in zip(rows, images, strict=True):
        assert row.regions.class_ids[:, 0].tolist() == image["probs"].argmax(1).tolist()
    with pytest.raises(InputError, match=r"no \.npz file of UNITER.*give COCO's JSON"):
        read([tmp_path / "npz"])


@pytest.mark.parametrize("name", ["flickr30k_000000000042", "vg_42"])
def test_uniter_s_names_of_other_images_become_their_ids(tmp_path, name):
    np.savez(tmp_path / f"{name}.npz", **uniter_arrays(IMAGES[0]))
    sizes = write(tmp_path / "sizes.json", ['{"images": [{"id": 42, "width": 100, "height": 90}]}'])
    _, _, rows = read([tmp_path / f"{name}.npz", sizes])
    check(rows, IMAGES[:1], atol=0.1, ids=["42"])


def milvlg_arrays(image, attributes=True):
    info = {
        "image_id": image["image_id"],
        "image_h": image["height"],
        "image_w": image["width"],
        "num_boxes": len(image["boxes"]),
        "objects_id": image["ids"],
        "objects_conf": image["conf"],
    }
    info |= {"attrs_id": image["attr_ids"], "attrs_conf": image["attr_conf"]} if attributes else {}
    return {
        "x": image["features"],
        "bbox": image["boxes"],
        "num_bbox": len(image["boxes"]),
        "image_h": image["height"],
        "image_w": image["width"],
        "info": info,
    }


@pytest.mark.parametrize("attributes", [True, False])
def test_milvlg_comes_through_with_classes_and_attributes(tmp_path, attributes):
    for number, image in enumerate(IMAGES):
        np.savez_compressed(tmp_path / f"{number:03}.npz", **milvlg_arrays(image, attributes))
    format, info, rows = read([tmp_path], NAMES)
    assert format == "milvlg-npz"
    check(rows, IMAGES)
    check_classes(info, rows, IMAGES)
    for row, image in zip(rows, IMAGES, strict=True):
        found = None if row.attribute_ids is None else row.attribute_ids[:, 0].tolist()
        assert found == (image["attr_ids"].tolist() if attributes else None)


class Evil:
    def __reduce__(self):
        return print, ("code has run",)


def test_the_pickle_of_milvlg_runs_no_code(tmp_path, capsys):
    for number, info in enumerate([milvlg_arrays(IMAGES[0])["info"], Evil(), {"objects_id": Evil()}]):
        np.savez(tmp_path / f"{number}.npz", **milvlg_arrays(IMAGES[0]) | {"info": np.array(info, object)})
    _, _, rows = read([tmp_path])
    assert [isinstance(row, Reject) for row in rows] == [False, True, True]
    assert "code has run" not in capsys.readouterr().out


def write_mmf(folder, images):
    for number, image in enumerate(images):
        info = {"bbox": image["boxes"], "num_boxes": len(image["boxes"]), "objects": image["probs"].argmax(1)}
        info |= {"image_width": image["width"], "image_height": image["height"], "cls_prob": image["probs"]}
        np.save(folder / f"{number:03}.npy", image["features"])
        np.save(folder / f"{number:03}_info.npy", info)


def test_mmf_comes_through_with_its_distribution(tmp_path):
    write_mmf(tmp_path, IMAGES)
    ids = [f"{number:03}" for number in range(len(IMAGES))]
    for sources in ([tmp_path], sorted(tmp_path.iterdir())):
        format, info, rows = read(sources)
        assert (format, info.classes.kind) == ("mmf-npy", "distribution")
        check(rows, IMAGES, ids=ids)


def test_a_file_of_mmf_without_the_other_one_is_rejected(tmp_path):
    write_mmf(tmp_path, IMAGES[:3])
    (tmp_path / "001_info.npy").unlink()
    (tmp_path / "002.npy").write_bytes((tmp_path / "002.npy").read_bytes()[:-4])
    _, _, rows = read([tmp_path])
    assert [isinstance(row, Reject) for row in rows] == [False, True, True]
    assert rows[1].reason == "001_info.npy is no file"
    assert "which the file does not hold" in rows[2].reason


def test_headers_and_archives_are_not_believed(tmp_path):
    """A header of an array of 373 GB, and a small archive that unfolds to more than the limit."""
    good = milvlg_arrays(IMAGES[0])
    np.savez(tmp_path / "0.npz", **good)
    np.savez_compressed(tmp_path / "1.npz", **good | {"x": np.zeros(MAX_BYTES // 8 + 1)})
    data = (tmp_path / "0.npz").read_bytes()
    shape = f"({len(IMAGES[0]['boxes'])}, {D})".encode()
    assert shape in data
    huge = np.lib.format.header_data_from_array_1_0(np.zeros((1, D), np.float32)) | {"shape": (50_000_000_000, D)}
    with (tmp_path / "2.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, huge)
        stream.write(bytes(64))
    np.save(tmp_path / "2_info.npy", {"bbox": IMAGES[0]["boxes"]})
    _, _, rows = read([tmp_path / "0.npz", tmp_path / "1.npz"])
    assert "unfolds to more than" in rows[1].reason
    with pytest.raises(InputError, match="which the file does not hold"):
        read([tmp_path / "2.npy"])


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_names_a_smaller_size_unfolds_to_that(tmp_path, compression):
    """Without the limit, Python unfolds all 300 MB and throws away what is more than the archive's size."""
    np.savez(tmp_path / "0.npz", **milvlg_arrays(IMAGES[0]))
    size = 300_000_000
    with zipfile.ZipFile(tmp_path / "0.npz", "a", compression) as archive:
        archive.writestr("more.npy", bytes(size))
    data = (tmp_path / "0.npz").read_bytes()
    (tmp_path / "0.npz").write_bytes(data.replace(size.to_bytes(4, "little"), (500).to_bytes(4, "little")))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"not a readable \.npz file"):
        FORMATS["milvlg-npz"].inspect([tmp_path / "0.npz"], None)
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["image_id", "image_width", "num_boxes", "bbox", "features"])
def test_a_list_that_a_pickle_repeats_without_end_is_a_reject(tmp_path, name):
    write_mmf(tmp_path, IMAGES[:1])
    info = np.load(tmp_path / "000_info.npy", allow_pickle=True).item()
    laughs = 1.0
    for _ in range(40):
        laughs = [laughs] * 10
    np.save(tmp_path / "001.npy", {**info, "image_id": "1", "features": np.ones((1, D), np.float32), name: laughs})
    reader = FORMATS["vilbert-npz"]
    (row,) = reader.read([tmp_path / "001.npy"], read([tmp_path / "000.npy"])[1])
    assert isinstance(row, Reject)


# --------------------------------------------------------------------------------------------------------------- HDF5


def write_hdf5(folder, images, adaptive=False, **changes):
    h5py = pytest.importorskip("h5py")
    join = np.concatenate if adaptive else np.stack
    arrays = {
        "image_features": join([image["features"] for image in images]),
        "image_bb": join([image["boxes"] for image in images]),
        "spatial_features": join([shares_of(image) for image in images]),
    }
    if adaptive:
        ends = np.cumsum([len(image["boxes"]) for image in images])
        arrays["pos_boxes"] = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    with h5py.File(folder / "trainval36.hdf5", "w") as file:
        for name, array in (arrays | changes).items():
            file.create_dataset(name, data=array)
    ids = {number + 100: number for number in range(len(images))}
    (folder / "trainval36_imgid2idx.pkl").write_bytes(pickle.dumps(ids, 2))
    return folder / "trainval36.hdf5"


@pytest.mark.parametrize("adaptive", [True, False])
def test_hdf5_comes_through(tmp_path, adaptive):
    images = [make_image(number, None if adaptive else 6) for number in range(8)]
    format, info, rows = read([write_hdf5(tmp_path, images, adaptive)])
    assert (format, info.feature_size, info.classes.kind) == ("butd-hdf5", D, "none")
    check(rows, images, ids=[str(number + 100) for number in range(8)])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_bb": np.zeros((8, 6, 3))}, "image_bb is"),
        ({"image_features": np.zeros((8, 6))}, "image_features is"),
        ({"image_features": np.zeros((2, 101, 4))}, "boxes an image"),
    ],
)
def test_hdf5_of_another_layout_is_refused(tmp_path, changes, reason):
    images = [make_image(number, 6) for number in range(8)]
    with pytest.raises(InputError, match=reason):
        read([write_hdf5(tmp_path, images, **changes)])


def test_hdf5_without_ids_or_that_lies_elsewhere_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    images = [make_image(number, 6) for number in range(8)]
    path = write_hdf5(tmp_path, images)
    with h5py.File(tmp_path / "link.hdf5", "w") as file:
        for name in ("image_features", "image_bb", "spatial_features"):
            file[name] = h5py.ExternalLink(str(path), name)
    (tmp_path / "link_imgid2idx.pkl").write_bytes(pickle.dumps({1: 0}))
    with pytest.raises(InputError, match="has no dataset image_features"):
        read([tmp_path / "link.hdf5"])
    (tmp_path / "trainval36_imgid2idx.pkl").write_bytes(pickle.dumps({1: 0, 2: 0}))
    with pytest.raises(InputError, match="different numbers"):
        read([path])
    (tmp_path / "trainval36_imgid2idx.pkl").unlink()
    with pytest.raises(InputError, match=r"put trainval36_imgid2idx\.pkl beside it"):
        read([path])
    path.write_bytes(path.read_bytes()[:200])
    (tmp_path / "trainval36_imgid2idx.pkl").write_bytes(pickle.dumps({1: 0}))
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        read([path])


def test_an_image_whose_boxes_differ_between_datasets_is_rejected(tmp_path):
    images = [make_image(number, 6) for number in range(3)]
    boxes = np.stack([image["boxes"] for image in images])
    boxes[1, 2] += 30
    _, _, rows = read([write_hdf5(tmp_path, images, image_bb=boxes)])
    assert [isinstance(row, Reject) and "do not fit each other" in row.reason for row in rows] == [False, True, False]
