"""Writes the data sets of the downstream tasks in their official layouts, made from the scenes of a world.

| file | layout |
|---|---|
| ``vqa/v2_OpenEnded_mscoco_SPLIT_questions.json``, ``v2_mscoco_SPLIT_annotations.json`` | VQA 2.0, ten answers each |
| ``vcr/{train,val,test}.jsonl``, ``vcr/metadata/ID.json`` | VCR; ``vcr/regions`` has features of the tagged boxes |
| ``flickr30k/dataset_flickr30k.json`` | Karpathy's splits, the world's captions |
| ``refcoco_plus/refs(unc).p``, ``instances.json`` | REFER, with testA and testB |

Twins also make a suite in the layout of SugarCrepe: ``suite/KIND.json``.

Pictures are split by their number, so a picture is in the same split of every task. The test splits have their truth
as well.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.toyworld.captions import ToyCaption
from pipeline.toyworld.scene import HEIGHT, SHAPES, WIDTH, Scene, Thing
from pipeline.toyworld.suite.twins import Twins
from pipeline.toyworld.tasks import Choice, Tokens, ToyQuestion, ask, choose, refer

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
QUESTIONS, CHOICES, EXPRESSIONS = 6, 3, 2
"""VQA questions of a picture; the most VCR questions of a picture; the most expressions of a thing"""
ANSWERS = 10
"""answers to a VQA question"""
DISSENTERS = (0.4, 0.3, 0.2, 0.1)
"""how often 0, 1, 2 and 3 of the ten answers to a question are wrong"""
TEST_A = SHAPES[:4]
"""testA asks for these shapes, and testB for the others, as RefCOCO's splits ask for people and for objects."""
_VQA, _VCR, _REFER = 11, 12, 13
"""the tasks' streams of random numbers"""


def split_of(image_id: int) -> SplitName:
    """Returns the split of a picture: a tenth is for testing and a tenth for validation."""
    last = image_id % 10
    return "test" if last == 0 else "val" if last == 1 else "train"


def write_tasks(seed: int, scenes: Sequence[Scene], captions: Sequence[Sequence[ToyCaption]], folder: Path) -> None:
    """Writes all data sets; the pictures' names are those of `pipeline.toyworld.write.picture_name`."""
    _write_vqa(seed, scenes, folder / "vqa")
    _write_vcr(seed, scenes, folder / "vcr")
    _write_json(folder / "flickr30k" / "dataset_flickr30k.json", _karpathy(scenes, captions))
    _write_refer(seed, scenes, folder / "refcoco_plus")


def write_suite(twins: Sequence[Twins], folder: Path) -> None:
    """Writes the captions of twins in the layout of SugarCrepe: a file for each kind.

    Each caption is in it twice, once as the caption of its own picture and once as the false one of the twin.
    """
    kinds: dict[str, list[dict[str, str]]] = {}
    for pair in twins:
        for scene, captions in zip(pair.scenes, (pair.captions, pair.captions[::-1]), strict=True):
            true, false = captions
            row = {"filename": picture_name(scene.image_id), "caption": true, "negative_caption": false}
            kinds.setdefault(pair.kind, []).append(row)
    for kind, rows in kinds.items():
        _write_json(folder / f"{kind}.json", {str(number): row for number, row in enumerate(rows)})


def picture_name(image_id: int) -> str:
    """Returns the file name of a picture, as COCO names files."""
    return f"{image_id:012}.png"


def _random(seed: int, scene: Scene, stream: int) -> np.random.Generator:
    return np.random.default_rng((seed, scene.image_id, stream))


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{json.dumps(value)}\n", encoding="utf-8")


# ----------------------------------------------------------------------------------------------------------------- VQA


def _write_vqa(seed: int, scenes: Sequence[Scene], folder: Path) -> None:
    for split in SPLITS:
        questions: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for scene in scenes:
            if split_of(scene.image_id) != split:
                continue
            rng = _random(seed, scene, _VQA)
            for number, question in enumerate(ask(scene, QUESTIONS, rng)):
                ids = {"image_id": scene.image_id, "question_id": scene.image_id * 1000 + number}
                questions.append({**ids, "question": question.text})
                annotations.append({**ids, **_answered(question, rng)})
        shared = {
            "info": {"description": "Generated toy world", "version": "1", "seed": seed},
            "license": {"name": "none", "url": ""},
            "data_type": "toyworld",
            "data_subtype": split,
        }
        _write_json(
            folder / f"v2_OpenEnded_mscoco_{split}_questions.json",
            {**shared, "task_type": "Open-Ended", "questions": questions},
        )
        _write_json(folder / f"v2_mscoco_{split}_annotations.json", {**shared, "annotations": annotations})


def _answered(question: ToyQuestion, rng: np.random.Generator) -> dict[str, object]:
    """Returns the answers of ten people; a few of them are wrong and not sure."""
    wrong = int(rng.choice(len(DISSENTERS), p=DISSENTERS))
    given = [(question.answer, "yes")] * (ANSWERS - wrong)
    given += [(question.wrong[int(rng.integers(len(question.wrong)))], "maybe") for _ in range(wrong)]
    order = rng.permutation(ANSWERS).tolist()
    return {
        "question_type": question.form,
        "answer_type": question.answer_type,
        "multiple_choice_answer": question.answer,
        "answers": [
            {"answer": given[place][0], "answer_confidence": given[place][1], "answer_id": number}
            for number, place in enumerate(order, start=1)
        ],
    }


# ----------------------------------------------------------------------------------------------------------------- VCR


def _write_vcr(seed: int, scenes: Sequence[Scene], folder: Path) -> None:
    lines: dict[SplitName, list[str]] = {split: [] for split in SPLITS}
    for scene in scenes:
        split = split_of(scene.image_id)
        choices = choose(scene, CHOICES, _random(seed, scene, _VCR))
        if not choices:
            continue
        _write_json(folder / "metadata" / f"{scene.image_id}.json", _metadata(scene))
        for number, choice in enumerate(choices):
            ids = {
                "img_id": str(scene.image_id),  # the image id of the regions
                "question_number": number,
                "annot_id": f"{split}-{len(lines[split])}",
            }
            lines[split].append(
                json.dumps(
                    _vcr_line(scene, choice)
                    | ids
                    | {
                        "match_fold": f"{split}-0",
                        "match_index": len(lines[split]),
                    }
                )
            )
    for split, found in lines.items():
        (folder / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in found), encoding="utf-8")


def _vcr_line(scene: Scene, choice: Choice) -> dict[str, object]:
    four = list(range(4))
    return {
        "movie": "toyworld",
        "objects": [thing.shape for thing in scene.things],
        "interesting_scores": [0],
        "answer_likelihood": "likely",
        "img_fn": str(scene.image_id),
        "metadata_fn": f"{scene.image_id}.json",
        "question_orig": _as_written(choice.question),
        "answer_orig": _as_written(choice.answers[choice.answer]),
        "rationale_orig": _as_written(choice.rationales[choice.rationale]),
        "question": choice.question,
        "answer_choices": choice.answers,
        "answer_label": choice.answer,
        "answer_match_iter": four,
        "answer_sources": four,
        "rationale_choices": choice.rationales,
        "rationale_label": choice.rationale,
        "rationale_match_iter": four,
        "rationale_sources": four,
    }


def _as_written(tokens: Tokens) -> str:
    """Returns what an annotator would have typed; there, things are numbered from 1."""
    words = [token if isinstance(token, str) else " and ".join(str(i + 1) for i in token) for token in tokens]
    return " ".join(words).replace(" .", ".").replace(" ?", "?")


def _metadata(scene: Scene) -> dict[str, object]:
    boxes = [_corners(thing) for thing in scene.things]
    return {
        "boxes": [[*box, 1.0] for box in boxes],
        "segms": [[[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]] for x1, y1, x2, y2 in boxes],
        "names": [thing.shape for thing in scene.things],
        "width": WIDTH,
        "height": HEIGHT,
    }


def _corners(thing: Thing) -> list[int]:
    box = thing.box
    return [box.x1, box.y1, box.x2, box.y2]


# ------------------------------------------------------------------------------------------------------------ captions


def _karpathy(scenes: Sequence[Scene], captions: Sequence[Sequence[ToyCaption]]) -> dict[str, object]:
    images: list[dict[str, object]] = []
    sentence_id = 0
    for number, (scene, said) in enumerate(zip(scenes, captions, strict=True)):
        sentences = []
        for caption in said:
            tokens = "".join(c if c.isalnum() else " " for c in caption.text.lower()).split()
            sentences.append({"tokens": tokens, "raw": caption.text, "imgid": number, "sentid": sentence_id})
            sentence_id += 1
        images.append(
            {
                "sentids": [sentence["sentid"] for sentence in sentences],
                "imgid": number,
                "sentences": sentences,
                "split": split_of(scene.image_id),
                "filename": picture_name(scene.image_id),
                "cocoid": scene.image_id,
            }
        )
    return {"images": images, "dataset": "flickr30k"}


# ------------------------------------------------------------------------------------------------------------ RefCOCO+


def _write_refer(seed: int, scenes: Sequence[Scene], folder: Path) -> None:
    refs: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    sentences = 0
    for scene in scenes:
        rng = _random(seed, scene, _REFER)
        split, shapes = _refer_split(scene.image_id)
        for number, thing in enumerate(scene.things):
            annotation = _annotation(len(annotations) + 1, scene.image_id, thing)
            annotations.append(annotation)
            said = refer(scene, number, EXPRESSIONS, rng)
            if thing.shape not in shapes or not said:
                continue
            ids = list(range(sentences, sentences + len(said)))
            refs.append(
                {
                    "ref_id": len(refs),
                    "ann_id": annotation["id"],
                    "image_id": scene.image_id,
                    "category_id": annotation["category_id"],
                    "file_name": f"{scene.image_id:012}_{annotation['id']}.png",
                    "split": split,
                    "sent_ids": ids,
                    "sentences": [
                        {"sent_id": i, "tokens": text.split(), "raw": text, "sent": text}
                        for i, text in zip(ids, said, strict=True)
                    ],
                }
            )
            sentences += len(said)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    categories = [{"supercategory": "toy", "id": SHAPES.index(shape) + 1, "name": shape} for shape in SHAPES]
    pictures = [
        {"id": scene.image_id, "file_name": picture_name(scene.image_id), "height": HEIGHT, "width": WIDTH}
        for scene in scenes
    ]
    _write_json(
        folder / "instances.json",
        {
            "info": {"description": "Generated toy world", "version": "1", "seed": seed},
            "licenses": [],
            "images": pictures,
            "annotations": annotations,
            "categories": categories,
        },
    )


def _refer_split(image_id: int) -> tuple[str, tuple[str, ...]]:
    """Returns the split of a picture and the shapes that are asked for; every second test picture is for testB."""
    split = split_of(image_id)
    if split != "test":
        return split, SHAPES
    return ("testA", TEST_A) if image_id % 20 == 0 else ("testB", SHAPES[4:])


def _annotation(number: int, image_id: int, thing: Thing) -> dict[str, object]:
    box = thing.box
    x1, y1, x2, y2 = _corners(thing)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": SHAPES.index(thing.shape) + 1,
        "bbox": [x1, y1, box.width, box.height],
        "area": box.area,
        "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
        "iscrowd": 0,
    }
