"""The detector beside the numbers of the Hugging Face port, with weights that a rule generates."""

import copy
import json
import math
import pickle
import zlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torchvision.ops import roi_pool

from parsers.command import InputError
from pipeline.detectors.visual_genome import PRESETS, VisualGenomeDetector
from pipeline.detectors.visual_genome.network import VisualGenomeNetwork
from pipeline.detectors.visual_genome.preprocessing import resized_size
from pipeline.detectors.visual_genome.proposals import ROI_WEIGHTS, cell_anchors, decode, grid_anchors, propose
from pipeline.detectors.visual_genome.selection import by_confidence, select_butd, select_hf
from pipeline.detectors.visual_genome.weights import load_network

FEATURES, LOGITS, PIXELS = 1e-4, 1e-3, 1e-2
"""How far from the port's numbers: its own move by less when it is run in float64."""
PROBABILITIES = 1e-4
CASES = {
    "image0_160_240": ("image0.png", 160, 240),
    "image1_160_240": ("image1.png", 160, 240),
    "image0_600_1000": ("image0.png", 600, 1000),
}
TRACED = [
    "image0_160_240",
    "image1_160_240",
    pytest.param("image0_600_1000", marks=pytest.mark.slow),
]


@pytest.fixture(scope="session")
def reference(shared):
    folder = shared / "parity" / "vg_detector"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def state(reference):
    """All tensors, each generated from its own name."""
    overrides = np.load(reference / "overrides.npz")
    gains = {
        "objectness_logits": 4,
        "anchor_deltas": 0.5,
        "cls_score": 24,
        "bbox_pred": 1.5,
        "attr_score": 16,
        "conv3": 0.1,
    }

    def value(name, shape):
        module, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked":
            return np.zeros(shape, np.int64)
        if "cell_anchors" in name:
            return cell_anchors().numpy()
        if name in overrides:
            return overrides[name]
        key = zlib.crc32(name.encode())
        normal = np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)
        if kind == "running_var":
            return 1 + np.float32(0.1) * np.abs(normal)
        if module.endswith(".norm") and kind == "weight":
            return 1 + np.float32(0.1) * normal
        if kind in ("running_mean", "bias"):
            return np.float32(0.1) * normal
        if module.endswith("cls_embedding"):
            return normal
        gain = 1 / 16 if module == "backbone.stem.conv1" else gains.get(module.rpartition(".")[2], 1)
        return normal * np.float32(gain / math.sqrt(math.prod(shape[1:])))

    names = json.loads((reference / "keys.json").read_text())
    return {name: torch.from_numpy(np.asarray(value(name, shape))) for name, (shape, _) in names.items()}


@pytest.fixture(scope="session")
def weights(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "pytorch_model.bin"
    torch.save(state, path)
    return str(path)


@pytest.fixture(scope="session")
def detector(weights):
    return VisualGenomeDetector(weights)


@pytest.fixture(scope="session")
def small(detector):
    """It is quick, for it looks at small pictures, which have few proposals."""
    return changed(detector, min_boxes=0, min_size=16, max_size=64)


def changed(detector, **settings):
    """The detector with other settings; what is large is shared."""
    other = copy.copy(detector)
    other.settings = replace(detector.settings, **settings)
    return other


@pytest.fixture(scope="session")
def trace(reference, detector):
    """The expected arrays of a case, the detector, the picture and what the network says of it."""

    @cache
    def run(case):
        file, min_size, max_size = CASES[case]
        ours = changed(detector, min_size=min_size, max_size=max_size)
        picture = ours.prepare(rgb(reference / file))
        with np.load(reference / f"{case}.npz") as expected:
            return dict(expected), ours, picture, ours.describe(picture)

    return run


def rgb(path):
    return np.asarray(Image.open(path).convert("RGB"))


def close(found, expected, tolerance):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=tolerance)


# --------------------------------------------------------------------------------------------------------------- parity


def test_names_and_shapes_are_those_of_the_public_weights(reference):
    with torch.device("meta"):
        ours = VisualGenomeNetwork().state_dict()
    expected = json.loads((reference / "keys.json").read_text())
    assert {name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")] for name, tensor in ours.items()} == (
        expected
    )


@pytest.mark.parametrize("case", TRACED)
def test_the_network_computes_what_the_port_computes(trace, case):
    expected, ours, picture, found = trace(case)
    assert picture.size == tuple(expected["size"])
    np.testing.assert_allclose(picture.scale.numpy(), expected["scale_yx"][[1, 0, 1, 0]], rtol=1e-7)
    close(found.boxes, expected["proposals"], PIXELS)
    probs, classes = found.class_probs[:, :1600].max(1)
    np.testing.assert_array_equal(classes, expected["fg_class"])
    np.testing.assert_array_equal(found.class_probs.argmax(1), expected["argmax_incl_bg"])
    close(probs, expected["fg_prob"], PROBABILITIES)
    predictor = ours.network.roi_heads.box_predictor
    close(predictor.deltas(found.features, classes), expected["box_deltas_fg_class"], LOGITS)
    with torch.inference_mode():
        cells = ours.network.backbone(picture.pixels)
        logits, deltas = ours.network.proposal_generator.rpn_head(cells)
    _, objectness = propose(logits[0], deltas[0], cell_anchors(), picture.size)
    close(objectness, expected["prop_logits"], LOGITS)
    if "input" not in expected:  # the large case has end results only
        assert cells.shape == tuple(expected["res4_shape"])
        close([cells.mean(), cells.std()], expected["res4_mean_std"], FEATURES)
        close([picture.pixels.mean(), picture.pixels.std()], expected["input_mean_std"], LOGITS)
        close(picture.pixels[0, :, :4, :4], expected["input_corner"], LOGITS)
        return
    close(picture.pixels, expected["input"], LOGITS)
    close(cells, expected["res4"], FEATURES)
    close(logits, expected["rpn_objectness"], LOGITS)
    close(deltas, expected["rpn_deltas"], LOGITS)
    rows = expected["rows"]
    features = found.features[rows]
    close(features, expected["feat_rows"], FEATURES)
    class_logits = predictor.cls_score(features)
    close(class_logits, expected["cls_logits_rows"], LOGITS)
    close(predictor.attribute_logits(features, class_logits), expected["attr_logits_rows"], LOGITS)
    close(predictor.bbox_pred(found.features[:12]), expected["box_deltas_rows0_11"], LOGITS)
    pooled = roi_pool(cells.contiguous(), [found.boxes], 14, 1 / 16)
    close(pooled[5], expected["roi_pool_row5"], FEATURES)
    close(pooled.mean((1, 2, 3)), expected["roi_pool_mean"], FEATURES)


@pytest.mark.parametrize("case", TRACED)
def test_the_hugging_face_rule_selects_what_the_port_selects(trace, case):
    expected, ours, picture, found = trace(case)
    groups = {name.split("/")[0] for name in expected if name.startswith("hf_")}
    assert len(groups) >= 2
    for group in groups:
        _, least, most = group.split("_")
        port = {name.split("/")[1]: array for name, array in expected.items() if name.startswith(f"{group}/")}
        regions = changed(ours, rule="hf", min_boxes=int(least), max_boxes=int(most)).select(picture, found)
        np.testing.assert_array_equal(regions.features, found.features[port["keep"].astype(int)])
        assert len(regions.boxes) == port["num"]
        close(regions.boxes, port["boxes"], PIXELS)
        width, height = picture.size[1] * picture.scale[0], picture.size[0] * picture.scale[1]
        close(regions.boxes / np.array([width, height, width, height]), port["normalized_boxes"], PIXELS / 100)
        close(regions.features[: len(port["roi_features"])], port["roi_features"], FEATURES)
        objects, attributes = regions.class_probs[:, :1600], regions.attribute_probs
        np.testing.assert_array_equal(objects.argmax(1), port["obj_ids"])
        np.testing.assert_array_equal(attributes.argmax(1), port["attr_ids"])
        close(objects.max(1), port["obj_probs"], PROBABILITIES)
        close(attributes.max(1), port["attr_probs"], PROBABILITIES)


@pytest.mark.parametrize("case", TRACED[:2])
def test_the_butd_rule_selects_what_caffe_would_select(trace, case):
    expected, ours, picture, found = trace(case)
    groups = [name.removesuffix("/keep") for name in expected if name.startswith("butd_") and name.endswith("/keep")]
    assert len(groups) == 4
    for group in groups:
        _, least, most = group.split("_")
        rows = expected[f"{group}/keep"].astype(int)
        regions = changed(ours, rule="butd", min_boxes=int(least), max_boxes=int(most)).select(picture, found)
        np.testing.assert_array_equal(regions.features, found.features[rows])
        np.testing.assert_array_equal(regions.class_probs, found.class_probs[rows])
        close(regions.boxes, expected["butd_boxes_orig_px"][rows], PIXELS)
    boxes, probs = (found.boxes * picture.scale).numpy(), found.class_probs[:, :1600].numpy()
    confidences = dict(by_confidence(boxes, probs))
    close([confidences[row] for row in range(300)], expected["butd_max_conf"], PROBABILITIES)


@pytest.fixture(scope="session")
def units(reference):
    with np.load(reference / "units.npz") as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_boxes_are_coded_as_in_the_port(units):
    for part in (slice(0, 4), slice(4, 8)):
        boxes, deltas = units["coder_boxes"], units["coder_deltas"][:, part]
        torch.testing.assert_close(decode(boxes, deltas), units["coder_out_rpn"][:, part], rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(
            decode(boxes, deltas, ROI_WEIGHTS), units["coder_out_roi"][:, part], rtol=1e-6, atol=1e-4
        )


def test_anchors_are_those_of_the_port(units):
    torch.testing.assert_close(cell_anchors(), units["cell_anchors"], rtol=0, atol=1e-4)
    torch.testing.assert_close(grid_anchors(cell_anchors(), 2, 3), units["grid_anchors_2x3"], rtol=0, atol=1e-4)


def test_boxes_are_pooled_as_in_the_port(units):
    pooled = roi_pool(units["roi_feature"][None], [units["roi_boxes"]], 14, 1 / 16)
    torch.testing.assert_close(pooled, units["roi_out"], rtol=0, atol=0)


def test_pictures_are_resized_as_in_the_port(units):
    for height, width, min_size, max_size, *expected in units["resize_table"].tolist():
        assert [*resized_size(height, width, min_size, max_size)] == expected


def test_the_threshold_rises_until_there_are_enough_boxes(units):
    boxes, scores = units["nms_boxes"], units["nms_scores"]
    assert select_hf(boxes, scores, 65, 300).tolist() == units["nms_keep_0.5"].tolist()
    assert select_hf(boxes, scores, 74, 300).tolist() == units["nms_keep_0.7"].tolist()
    assert select_hf(boxes, scores, 80, 300).tolist() == units["nms_keep_0.7"].tolist(), "there are no more than 74"
    assert select_hf(boxes, scores, 10, 12).tolist() == units["nms_keep_0.5"].tolist()[:12]


# ------------------------------------------------------------------------------------------------------------ selection


def caffe_rule(boxes, probs, least, most):
    """The rule as it is usually written: one class after the other."""
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    confidence = np.zeros(len(boxes), np.float32)
    for scores in probs.T:
        order = np.argsort(-scores, kind="stable")
        while len(order):
            first, rest = order[0], order[1:]
            confidence[first] = max(confidence[first], scores[first])
            sides = np.minimum(boxes[first, 2:], boxes[rest, 2:]) - np.maximum(boxes[first, :2], boxes[rest, :2]) + 1
            both = sides.clip(0).prod(1)
            order = rest[both / (areas[first] + areas[rest] - both) < np.float32(0.3)]
    ranked = np.argsort(-confidence, kind="stable")
    confident = np.flatnonzero(confidence >= np.float32(0.2))
    if len(confident) < least:
        return ranked[:least]
    return ranked[:most] if len(confident) > most else confident


@st.composite
def proposals(draw):
    count, classes = draw(st.integers(0, 12)), draw(st.integers(1, 4))
    corner = st.integers(0, 20)
    boxes = [
        (x, y, x + draw(corner) / 2 + 0.5, y + draw(corner) / 2 + 0.5)
        for x, y in draw(st.lists(st.tuples(corner, corner), min_size=count, max_size=count))
    ]
    value = st.sampled_from([0.0, 0.001, 0.05, 0.1, 0.19, 0.2, 0.21, 0.5, 0.9])  # few, so that there are ties
    probs = draw(st.lists(st.lists(value, min_size=classes, max_size=classes), min_size=count, max_size=count))
    return np.array(boxes, np.float32).reshape(count, 4), np.array(probs, np.float32).reshape(count, classes)


@given(proposals(), st.integers(0, 12), st.integers(0, 12))
def test_one_pass_finds_what_class_by_class_finds(found, least, more):
    boxes, probs = found
    most = max(1, least + more)
    assert select_butd(boxes, probs, least, most).tolist() == caffe_rule(boxes, probs, least, most).tolist()


# ------------------------------------------------------------------------------------------------------------- pictures


def pictures(*sizes):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]


def same(left, right):
    for name in ("boxes", "features", "class_probs", "attribute_probs"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


@pytest.mark.parametrize("rule", ["butd", "hf"])
def test_a_batch_gives_what_its_pictures_give_alone(small, rule):
    images = pictures((40, 50), (50, 40), (40, 50), (9, 7))
    ours = changed(small, rule=rule)
    together = ours.detect(images)
    assert all(len(regions.boxes) for regions in together)
    for image, regions in zip(images, together, strict=True):
        same(regions, ours.detect([image])[0])


@pytest.mark.parametrize("rule", ["butd", "hf"])
def test_regions_are_whole_and_inside_the_picture(small, rule):
    """Whatever there is too little of: pixels, proposals, confident ones."""
    images = pictures((1, 1), (1, 900), (700, 2), (33, 47))
    for image, regions in zip(images, changed(small, rule=rule, min_boxes=36).detect(images), strict=True):
        n = len(regions.boxes)
        assert 1 <= n <= 36
        height, width, _ = image.shape
        assert (regions.boxes[:, 2:] > regions.boxes[:, :2]).all()
        assert regions.boxes.min() >= 0
        assert (regions.boxes[:, 2:] <= np.array([width, height]) * 1.0001).all()
        assert regions.features.shape == (n, small.feature_size)
        assert regions.class_probs.shape == (n, len(small.class_names))
        assert regions.attribute_probs.shape == (n, len(small.attribute_names))
        for array in (regions.boxes, regions.features, regions.class_probs, regions.attribute_probs):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        np.testing.assert_allclose(regions.class_probs.sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(regions.attribute_probs.sum(1), 1, rtol=1e-5)


def test_given_boxes_are_described_as_proposals_are(small):
    images = pictures((40, 50), (50, 40))
    regions = changed(small, max_boxes=5).detect(images)
    again = small.detect(images, [r.boxes[::-1] for r in regions])
    for first, second in zip(regions, again, strict=True):
        np.testing.assert_array_equal(second.boxes, first.boxes[::-1])
        close(second.features, first.features[::-1], 1e-5)
        close(second.class_probs, first.class_probs[::-1], PROBABILITIES)
        close(second.attribute_probs, first.attribute_probs[::-1], PROBABILITIES)


def test_given_boxes_have_four_sides(small):
    with pytest.raises(ValueError, match=r"image 0: given boxes of shape \(4, 5\), expected \[n, 4\]"):
        small.detect(pictures((40, 50)), [np.zeros((4, 5), np.float32)])


def test_a_picture_may_have_no_given_boxes(small):
    (regions,) = small.detect(pictures((40, 50)), [np.zeros((0, 4), np.float32)])
    assert regions.boxes.shape == (0, 4)
    assert regions.features.shape == (0, 2048)
    assert regions.attribute_probs.shape == (0, 400)


def test_given_boxes_at_the_edges_are_described(small):
    """Of some the resized picture has nothing, or less than float32 can tell."""
    boxes = np.array([[0, 0, 9, 9], [49.99999, 5, 50.9, 30], [50, 5, 50.9, 30], [-0.9, -0.9, 0, 0]], np.float32)
    (regions,) = small.detect(pictures((40, 50)), [boxes])
    np.testing.assert_array_equal(regions.boxes, boxes)
    assert np.isfinite(regions.features).all()
    np.testing.assert_allclose(regions.class_probs.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_picture_is_named(small, image):
    with pytest.raises(ValueError, match="image 0 is"):
        small.detect([image])


def test_bfloat16_describes_nearly_the_same(small, weights):
    half = VisualGenomeDetector(weights, small.settings, precision="bf16")
    images, boxes = pictures((40, 50)), [np.array([[3, 4, 30, 35], [10, 0, 50, 40]], np.float32)]
    (exact,), (rounded,) = small.detect(images, boxes), half.detect(images, boxes)
    close(rounded.features, exact.features, 0.03)
    assert np.abs(rounded.features - exact.features).max() > 0
    assert rounded.features.dtype == np.float32
    assert half.version.endswith(" bf16")


# -------------------------------------------------------------------------------------------------------------- options


def test_presets_can_be_changed_and_tell_versions_apart(weights, detector):
    other = VisualGenomeDetector(weights, "lxmert", max_boxes=50)
    assert other.settings == replace(PRESETS["lxmert"], max_boxes=50)
    assert other.version != detector.version


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "vilbert"}, "there is no preset 'vilbert'; there are ernie-vil"),
        ({"precision": "fp8"}, "there is no precision 'fp8'"),
        ({"min_boxes": 40}, "40 to 36 boxes"),
        ({"max_boxes": 301}, "10 to 301 boxes"),
        ({"min_boxes": 0, "max_boxes": 0}, "0 to 0 boxes"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VisualGenomeDetector("no weights are read", **options)


def test_settings_say_what_is_wrong_with_them():
    with pytest.raises(ValueError, match="there is no rule 'best'; there are butd and hf"):
        replace(PRESETS["flickr"], rule="best")
    with pytest.raises(ValueError, match="sides of 600 to 500 pixels"):
        replace(PRESETS["flickr"], max_size=500)


def test_classes_have_the_published_names(weights, detector, tmp_path):
    names = {"objects_vocab.txt": 1600, "attributes_vocab.txt": 400}
    for file, count in names.items():
        (tmp_path / file).write_text("\n".join(f"{file[:3]},{i}" for i in range(count)))
    named = VisualGenomeDetector(weights, vocabulary=str(tmp_path))
    assert named.class_names[1599:] == ("obj,1599", "background")
    assert named.class_names[named.background] == "background"
    assert named.attribute_names[399] == "att,399"
    assert detector.class_names[1599:] == ("object 1599", "background")
    (tmp_path / "objects_vocab.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="has 2 lines, expected one for each of 1600 names"):
        VisualGenomeDetector(weights, vocabulary=str(tmp_path))


# -------------------------------------------------------------------------------------------------------------- weights


def as_pickle(state, path):
    with path.open("wb") as stream:
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        pickle.dump({"model": arrays, "__author__": "someone", "matching_heuristics": True}, stream)


def without_counters(state, path):
    torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, path)


FORMATS = {
    "model.safetensors": lambda state, path: save_file(state, path),
    "pytorch_model.bin": lambda state, path: torch.save({"model": state}, path),
    "legacy.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "weights.pkl": as_pickle,
    "fewer.pth": without_counters,
}


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_read_from_every_format(state, tmp_path, name):
    path = tmp_path / name
    FORMATS[name](state, path)
    network, checksum = load_network(path.parent if name in ("model.safetensors", "pytorch_model.bin") else path)
    path.unlink()  # a quarter of a gigabyte
    assert len(checksum) == 64
    found = network.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert not network.training


def test_other_anchors_are_used_and_mentioned(state, tmp_path):
    name = "proposal_generator.anchor_generator.cell_anchors.0"
    torch.save(state | {name: state[name] + 8}, tmp_path / "x.pth")
    with pytest.warns(UserWarning, match="its anchors, which are used, are 8 px off"):
        network, _ = load_network(tmp_path / "x.pth")
    torch.testing.assert_close(network.state_dict()[name], state[name] + 8)


def test_weights_that_do_not_fit_are_listed(tmp_path):
    state = {
        "backbone.stem.conv1.weight": torch.zeros(64, 3, 3, 3),
        "backbone.stem.conv1.norm.bias": torch.full((64,), math.nan),
        "backbone.stem.conv1.norm.weight": "text",
        "fc.weight": torch.zeros(1),
    }
    torch.save(state, tmp_path / "x.bin")
    with pytest.raises(InputError) as error:
        load_network(tmp_path / "x.bin")
    for part in (
        "fc.weight: not a part of the network",
        "backbone.stem.conv1.weight: has shape (64, 3, 3, 3), expected (64, 3, 7, 7)",
        "backbone.stem.conv1.norm.bias: NaN or infinity",
        "backbone.stem.conv1.norm.weight: a str, not a tensor",
        "running_mean: missing",
        "(537 problems)",
    ):
        assert part in str(error.value)


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize("name", ["x.bin", "x.safetensors"])
@pytest.mark.parametrize("damage", ["empty", "text", "half", "hostile", "number"])
def test_files_that_hold_no_weights_are_refused(tmp_path, name, damage):
    path = tmp_path / name
    torch.save({"a": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"version https://git-lfs.github.com/spec/v1",
            "half": whole[: len(whole) // 2],
            "hostile": pickle.dumps({"model": Hostile()}),
            "number": pickle.dumps(3),
        }[damage]
    )
    with pytest.raises(InputError, match=name):
        load_network(path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds neither model.safetensors nor pytorch_model.bin"):
        load_network(tmp_path)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_without_a_network_there_is_advice(offline):
    with pytest.raises(InputError, match=r"where there is no network, copy pytorch_model.bin of unc-nlp/frcnn-vg"):
        VisualGenomeDetector()


def test_the_cache_of_the_hub_is_found(offline, weights, detector):
    folder = offline / "models--unc-nlp--frcnn-vg-finetuned"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (folder / "snapshots" / ("0" * 40) / "pytorch_model.bin").symlink_to(weights)
    assert VisualGenomeDetector().version == detector.version
