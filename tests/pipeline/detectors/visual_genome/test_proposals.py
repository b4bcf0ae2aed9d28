"""Anchors and the coding of boxes."""

import torch

from pipeline.detectors.visual_genome.proposals import ROI_WEIGHTS, apply_deltas, cell_anchors, grid_anchors


def test_boxes_are_coded_as_in_the_port(units):
    for part in (slice(0, 4), slice(4, 8)):
        boxes, deltas = units["coder_boxes"], units["coder_deltas"][:, part]
        torch.testing.assert_close(apply_deltas(boxes, deltas), units["coder_out_rpn"][:, part], rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(
            apply_deltas(boxes, deltas, ROI_WEIGHTS), units["coder_out_roi"][:, part], rtol=1e-6, atol=1e-4
        )


def test_anchors_are_those_of_the_port(units):
    torch.testing.assert_close(cell_anchors(), units["cell_anchors"], rtol=0, atol=1e-4)
    torch.testing.assert_close(grid_anchors(cell_anchors(), 2, 3), units["grid_anchors_2x3"], rtol=0, atol=1e-4)
