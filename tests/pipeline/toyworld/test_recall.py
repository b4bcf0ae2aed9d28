"""How many toys regions cover."""

import numpy as np

from pipeline.toyworld import sample_scene
from pipeline.toyworld.network import CLASS_NAMES
from pipeline.toyworld.recall import recall
from shards.manifest import Classes
from shards.regions.table import RegionsInfo, RegionsRow
from shards.schema import Regions


def test_recall_counts_covered_toys_and_right_classes():
    scene = sample_scene(1, np.random.default_rng(0), (3, 3))
    boxes = np.float32([[t.box.x1, t.box.y1, t.box.x2, t.box.y2] for t in scene.things])
    boxes[2] += 200
    right = [CLASS_NAMES.index(t.shape) for t in scene.things]
    right[1] = 1 + right[1] % (len(CLASS_NAMES) - 1)
    ids = np.array([[0, number] for number in right], np.int16)
    probabilities = np.tile(np.float16([0.6, 0.4]), (3, 1))
    row = RegionsRow("1", 320, 240, Regions(boxes, np.zeros((3, 4), np.float16), ids, probabilities))
    classes = Classes(kind="top-k", count=len(CLASS_NAMES), background=0, names=list(CLASS_NAMES))
    assert recall(scene, row, RegionsInfo(4, classes, None)) == (2, 1)
