"""Which proposals become regions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detectors.visual_genome.selection import by_confidence, select_butd, select_hf
from tests.pipeline.detectors.visual_genome.tolerances import FEATURES, PIXELS, PROBABILITIES, TRACED, changed, close


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


def test_the_threshold_rises_until_there_are_enough_boxes(units):
    boxes, scores = units["nms_boxes"], units["nms_scores"]
    assert select_hf(boxes, scores, 65, 300).tolist() == units["nms_keep_0.5"].tolist()
    assert select_hf(boxes, scores, 74, 300).tolist() == units["nms_keep_0.7"].tolist()
    assert select_hf(boxes, scores, 80, 300).tolist() == units["nms_keep_0.7"].tolist(), "there are no more than 74"
    assert select_hf(boxes, scores, 10, 12).tolist() == units["nms_keep_0.5"].tolist()[:12]


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
