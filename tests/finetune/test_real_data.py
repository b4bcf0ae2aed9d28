"""Real questions and phrases through the tasks, from their published files to their scores."""

import json
import pickle
import zlib

import numpy as np
import pytest
import torch

from finetune.data import TaskFiles
from finetune.tasks.refcoco_plus import RefcocoPlus, RefcocoPlusSettings
from finetune.training.finetuning import FineTuning
from finetune.training.recipe import FineTuneRecipe
from parsers.checksums import forget_checksums
from pipeline.regions.rows import NO_CLASSES
from pretrain.training.distributed import DistributedContext
from shards.regions.table import RegionsInfo, RegionsRow, write_regions
from shards.schema import Regions
from tests.finetune.worlds import PIECES, learn, write_model

PHRASES, SIZE = 30, 48
"""Phrases of a photo, and the size of their features."""


def word_feature(word):
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=SIZE) / 2


@pytest.fixture
def phrases(shared, tmp_path):
    """Visual Genome's region phrases in REFER's layout: three photos to learn from, one held out.

    The regions of a photo are the phrases' own boxes. Their features are synthetic: the mean of a random vector for
    each word of the phrase.
    """
    folder = shared / "data/tasks/vg_regions"
    sizes = {item["image_id"]: item for item in json.loads((folder / "image_data.json").read_text())}
    refs, annotations, rows = [], [], []
    for image in json.loads((folder / "region_descriptions.json").read_text()):
        width, height = (sizes[image["id"]][name] for name in ("width", "height"))
        boxes, features = [], []
        for region in image["regions"][:PHRASES]:
            x, y, phrase = region["x"], region["y"], region["phrase"].strip()
            right, bottom = min(x + region["width"], width), min(y + region["height"], height)
            if not phrase or x < 0 or y < 0 or right <= x or bottom <= y:
                continue
            number = region["region_id"]
            boxes.append([x, y, right, bottom])
            features.append(np.mean([word_feature(word) for word in phrase.lower().split()], axis=0))
            annotations.append({"id": number, "image_id": image["id"], "bbox": [x, y, right - x, bottom - y]})
            split = "val" if image["id"] == 5 else "train"
            sentence = {"sent_id": number, "sent": phrase}
            refs.append({"ann_id": number, "image_id": image["id"], "split": split, "sentences": [sentence]})
        regions = Regions(np.array(boxes, np.float32), np.array(features, np.float16), None, None)
        regions.check(width, height)
        rows.append(RegionsRow(str(image["id"]), width, height, regions))
    images = [{"id": item["image_id"], "width": item["width"], "height": item["height"]} for item in sizes.values()]
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    (tmp_path / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (tmp_path / "regions").mkdir()
    with (tmp_path / "regions/part-00000.parquet").open("wb") as stream:
        write_regions(stream, rows, RegionsInfo(SIZE, NO_CLASSES, None))
    (tmp_path / "regions/report.json").write_text("{}")
    return tmp_path


def test_referring_expressions_of_real_photos(phrases):
    refs = pickle.loads((phrases / "refs(unc).p").read_bytes())
    words = {word for ref in refs for word in ref["sentences"][0]["sent"].lower().split()}
    vocabulary = [*PIECES[:5], *sorted(words)]
    start = write_model(
        phrases / "model", vocab_size=len(vocabulary), v_feature_size=SIZE, hidden_size=48, num_attention_heads=2,
        v_hidden_size=48, v_num_attention_heads=2, v_intermediate_size=48, co_hidden_size=48, co_num_attention_heads=2,
        t_biattention_id=(1, 2), v_biattention_id=(0, 1),
    )  # fmt: skip
    (start / "vocab.txt").write_text("".join(piece + "\n" for piece in vocabulary))
    forget_checksums(start)
    task = RefcocoPlus(RefcocoPlusSettings(max_text=20))
    recipe = FineTuneRecipe.for_task(RefcocoPlusSettings)(
        train=("train",), steps=300, batch_size=24, task=task.settings,
        optimizer={"learning_rate": 3e-3, "warmup_steps": 10, "schedule": "linear", "betas": (0.9, 0.95)},
    )  # fmt: skip
    data = TaskFiles(phrases, [phrases / "regions"])
    training, held_out = (data.open(task, [split], start) for split in ("train", "val"))
    assert len(training.examples) == 3 * PHRASES
    workload = FineTuning(task, recipe, start, training, held_out)
    learn(workload, recipe.steps)
    world = DistributedContext(0, 1, torch.device("cpu"))
    for split in (training, held_out):
        predictions = task.infer(workload.model.eval(), split, batch_size=32, world=world)
        task.write(predictions, phrases / "boxes.json")
        scores = task.evaluate(task.read_predictions(phrases / "boxes.json"), split.examples)
        # Features of random words say nothing about the words of another photo.
        assert scores["accuracy"] >= 0.8 or split is held_out
        assert scores["accuracy/+1"] >= scores["accuracy"]
