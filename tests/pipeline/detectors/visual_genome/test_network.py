"""The network beside the port."""

import json

import numpy as np
import pytest
import torch
from torchvision.ops import roi_pool

from pipeline.detectors.visual_genome.network import VisualGenomeNetwork
from pipeline.detectors.visual_genome.proposals import cell_anchors, propose
from tests.pipeline.detectors.visual_genome.tolerances import FEATURES, LOGITS, PIXELS, PROBABILITIES, TRACED, close


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


def test_boxes_are_pooled_as_in_the_port(units):
    pooled = roi_pool(units["roi_feature"][None], [units["roi_boxes"]], 14, 1 / 16)
    torch.testing.assert_close(pooled, units["roi_out"], rtol=0, atol=0)
