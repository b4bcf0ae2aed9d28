"""The operators that stand in for torchvision's compiled ones, beside their definitions written down once more."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detectors.operators import align_rois, greedy_nms, max_pool_rois

SEEDS = st.integers(0, 2**32 - 1)


def random_rois(rng, count, maps=2, size=60.0):
    corners = rng.uniform(-4, size, (count, 2))
    ends = corners + rng.uniform(0, size / 2, (count, 2))
    numbers = rng.integers(maps, size=(count, 1))
    return torch.from_numpy(np.concatenate([numbers, corners, ends], axis=1).astype(np.float32))


@given(SEEDS, st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_nms_keeps_the_best_of_what_overlaps(seed, threshold):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 8, (12, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 6, (12, 2))], axis=1).astype(np.float32)
    scores = rng.integers(0, 4, 12).astype(np.float32)  # many ties
    kept = []
    for i in sorted(range(12), key=lambda i: (-scores[i], i)):
        if all(not iou(boxes[i], boxes[j]) > threshold for j in kept):
            kept.append(i)
    found = greedy_nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    assert found.dtype == torch.int64
    assert found.tolist() == kept


def iou(a, b):
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(np.float32(shared) / np.float32(union)) if union else math.nan  # single precision, as theirs


@given(SEEDS)
def test_roi_pooling_takes_the_largest_of_each_bin(seed):
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.normal(size=(2, 3, 9, 11)).astype(np.float32))
    rois = random_rois(rng, 4)
    found, _ = max_pool_rois(maps, rois, 1 / 4, 5, 3)
    for k, (number, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (math.floor(abs(c / 4) + 0.5) * (1 if c >= 0 else -1) for c in corners)
        for i in range(5):
            for j in range(3):
                rows = [y for y in bin_cells(y1, y2, i, 5) if 0 <= y < 9]
                columns = [x for x in bin_cells(x1, x2, j, 3) if 0 <= x < 11]
                cells = [maps[int(number), :, y, x] for y in rows for x in columns]
                expected = torch.stack(cells).amax(0) if cells else torch.zeros(3)
                assert torch.equal(found[k, :, i, j], expected)


def bin_cells(first, last, number, bins):
    size = np.float32(max(last - first + 1, 1)) / np.float32(bins)
    low, high = np.floor(np.float32(number) * size), np.ceil(np.float32(number + 1) * size)
    return range(first + int(low), first + int(high))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [-1, 2])
@given(seed=SEEDS)
def test_roi_align_is_the_mean_of_bilinear_samples(ratio, aligned, seed):
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.normal(size=(2, 2, 6, 7)).astype(np.float32))
    rois = random_rois(rng, 3, size=30.0)
    found = align_rois(maps, rois, 1 / 4, 3, 2, ratio, aligned)
    for k, (number, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c / 4 - (0.5 if aligned else 0) for c in corners)
        height, width = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1), max(x2 - x1, 1))
        rows, columns = (ratio, ratio) if ratio > 0 else (math.ceil(height / 3), math.ceil(width / 2))
        for i in range(3):
            for j in range(2):
                total = torch.zeros(2)
                for a in range(rows):
                    for b in range(columns):
                        y = y1 + (i + (a + 0.5) / rows) * height / 3
                        x = x1 + (j + (b + 0.5) / columns) * width / 2
                        total += bilinear(maps[int(number)], y, x)
                torch.testing.assert_close(found[k, :, i, j], total / max(rows * columns, 1), atol=1e-4, rtol=1e-4)


def bilinear(one, y, x):
    _, height, width = one.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(len(one))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = one[:, top, left] * (1 - (x - left)) + one[:, top, right] * (x - left)
    lower = one[:, bottom, left] * (1 - (x - left)) + one[:, bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def test_they_are_torchvisions_own_results():
    """Where its compiled operators load; else these are the operators, and what stands on them works."""
    from torchvision.ops import nms, roi_align, roi_pool

    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.normal(size=(2, 8, 20, 30)).astype(np.float32))
    rois = random_rois(rng, 50, size=200.0)
    assert torch.equal(nms(rois[:, 1:], rois[:, 0], 0.4), greedy_nms(rois[:, 1:], rois[:, 0], 0.4))
    assert torch.equal(roi_pool(maps, rois, 7, 1 / 8), max_pool_rois(maps, rois, 1 / 8, 7, 7)[0])
    for ratio, aligned in ((2, False), (-1, True)):
        theirs, ours = (
            roi_align(maps, rois, 7, 1 / 8, ratio, aligned),
            align_rois(maps, rois, 1 / 8, 7, 7, ratio, aligned),
        )
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


STOOD_IN = """
import torch

def fail(path):
    raise OSError(f"{path}: built for another torch")

torch.ops.load_library = fail
import pipeline.detectors.operators
from torchvision.ops import batched_nms, nms

boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [5, 5, 30, 30]])
scores = torch.tensor([0.5, 0.9, 0.1])
assert nms(boxes, scores, 0.5).tolist() == [1, 2]
assert batched_nms(boxes, scores, torch.tensor([0, 1, 1]), 0.5).tolist() == [1, 0, 2]
for name in ("nms", "roi_align", "roi_pool"):
    assert torch._C._dispatch_has_computed_kernel_for_dispatch_key(f"torchvision::{name}", "CUDA"), name
"""


def test_they_stand_in_on_every_device_where_the_library_does_not_load():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", STOOD_IN], env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
