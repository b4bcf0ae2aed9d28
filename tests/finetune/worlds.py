"""A small model, images with regions, and tasks on them, in the official layouts."""

import json
import pickle

import numpy as np
import torch

from pipeline.regions.rows import NO_CLASSES
from pretrain.model.folder import export
from pretrain.model.heads import ErnieViLForPreTraining
from shards.regions.table import RegionsInfo, RegionsRow, write_regions
from shards.schema import Regions
from tests.models import SMALL

FEATURES = SMALL.v_feature_size
COLOURS = ("red", "blue", "green")
WORDS = (*COLOURS, "what", "colour", "is", "it", "the", "thing", "casey", "riley", "dog", "because", "why", "?")
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
SIZE = 100


def write_model(folder, **changes):
    """A model as pretraining exports it."""
    torch.manual_seed(0)
    values = {"vocab_size": len(PIECES), "max_position_embeddings": 40, "initializer_range": 0.08}
    values |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **changes}
    config = SMALL.model_copy(update=values)
    vocabulary = "".join(piece + "\n" for piece in PIECES).encode()
    export(ErnieViLForPreTraining(config).state_dict(), config, vocabulary, folder)
    return folder


def regions_folder(folder, images, features=FEATURES):
    """A finished folder of regions: for each image id its boxes.

    Features tell the place of the box among the first four, and the image's place in the list modulo 3.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = []
    for number, (image_id, boxes) in enumerate(images.items()):
        values = random.normal(size=(len(boxes), features)) / 4
        values[np.arange(len(boxes)), np.arange(len(boxes)) % 4] += 2
        values[:, 4] += 2 * (number % 3)
        regions = Regions(np.array(boxes, np.float32), values.astype(np.float16), None, None)
        rows.append(RegionsRow(image_id, SIZE, SIZE, regions))
    with (folder / "part-00000.parquet").open("wb") as stream:
        write_regions(stream, rows, RegionsInfo(features, NO_CLASSES, None))
    (folder / "stage.json").write_text(json.dumps(images))
    (folder / "report.json").write_text("{}")
    return folder


def learn(workload, steps):
    """The steps of the training loop, in this process and without DeepSpeed."""
    optimizer, dataset = workload.make_optimizer(), workload.dataset(0, 1)
    weights = torch.tensor(workload.weights, dtype=torch.float64)
    for step in range(steps):
        (batch,) = dataset[step]
        workload.prepare_step(optimizer, step, steps)
        scores = workload.score(workload.model.train(), batch)
        (weights * scores.loss / scores.count).sum().float().backward()
        torch.nn.utils.clip_grad_norm_(workload.model.parameters(), workload.recipe.optimizer.clip)
        optimizer.step()
        optimizer.zero_grad()


def grid(n):
    """n boxes that do not overlap."""
    return [[10 * i, 10, 10 * i + 8, 30] for i in range(n)]


def write_vqa(folder, split="train", images=6):
    """Two questions on each image: one has the same answer everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    questions, annotations = [], []
    for image in range(images):
        for number, (text, answer) in enumerate(
            (("what colour is it ?", COLOURS[image % 3]), ("is it the dog ?", "no"))
        ):
            ids = {"image_id": image, "question_id": 10 * image + number}
            questions.append({**ids, "question": text})
            answers = [{"answer": answer, "answer_confidence": "yes", "answer_id": i + 1} for i in range(10)]
            kind = ("other", "yes/no")[number]
            annotations.append({**ids, "answers": answers, "multiple_choice_answer": answer, "answer_type": kind})
    (folder / f"v2_OpenEnded_mscoco_{split}_questions.json").write_text(json.dumps({"questions": questions}))
    (folder / f"v2_mscoco_{split}_annotations.json").write_text(json.dumps({"annotations": annotations}))
    return folder


def vcr_item(number, split="train", **changes):
    """A question whose right answer and rationale are known by a word."""
    right, reason = number % 4, (number + 1) % 4
    answers = [
        ["it", "is", "the", "dog"] if choice == right else ["the", [0], COLOURS[choice % 3]] for choice in range(4)
    ]
    reasons = [["because", [0]] if choice == reason else ["why", "it", "?"] for choice in range(4)]
    item = {
        "annot_id": f"{split}-{number}", "img_id": f"{split}-{number % 3}", "objects": ["person", "dog"],
        "question": ["what", "is", [0, 1], "?"], "answer_choices": answers, "rationale_choices": reasons,
        "answer_label": right, "rationale_label": reason,
    }  # fmt: skip
    return {key: value for key, value in {**item, **changes}.items() if value is not None}


def write_vcr(folder, split="train", questions=8, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(vcr_item(number, split, **changes)) for number in range(questions)]
    (folder / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def write_refer(folder, images=6, protocol=2):
    """An expression for the first, second or third box of each image, by its colour; half of them are for training."""
    folder.mkdir(parents=True, exist_ok=True)
    refs, annotations = [], []
    for image in range(images):
        x1, y1, x2, y2 = grid(4)[image % 3]
        annotations.append({"id": 100 + image, "image_id": image, "bbox": [x1, y1, x2 - x1, y2 - y1]})
        text = f"the {COLOURS[image % 3]} thing"
        sentence = {"sent_id": image, "sent": text, "raw": text, "tokens": text.split()}
        split = ("train", "val", "testA", "testB")[image % 4 if image >= images // 2 else 0]
        refs.append(
            {"ref_id": image, "ann_id": 100 + image, "image_id": image, "split": split, "sentences": [sentence]}
        )
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol))
    sizes = [{"id": image, "width": SIZE, "height": SIZE} for image in range(images)]
    (folder / "instances.json").write_text(json.dumps({"images": sizes, "annotations": annotations}))
    return folder
