"""RefCOCO+: which region does an expression refer to? (https://github.com/lichengunc/refer)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from finetune.heads import RegionScoreHead, compute_region_loss
from finetune.inputs import ImageRows, Sources, TaskBatch
from finetune.released.tsv import is_released, parse_lines
from finetune.task import Split, Task, TaskSettings
from finetune.tasks.checks import expect_layout, match_predictions, read_example_id, read_integer, read_text
from parsers.command import InputError
from pretrain.model.config import ModelConfig
from shards.boxes import intersection_over_union
from shards.regions.table import RegionsRow
from shards.regions.tsv import REFERENCE, Fields, parse_integer
from shards.schema import Array, Regions
from shards.storage import pickles
from shards.storage.files import read_json, write_json

SPLITS = ("train", "val", "testA", "testB", "testC", "testAB", "testBC", "testAC", "test")
"""The splits that REFER knows. RefCOCO+ has the first four; an annotation of ``testAB`` is in testA and in testB."""
HIT = 0.5
"""A region is right if it overlaps with the box that is meant at least this much (intersection over union)."""

Box = tuple[float, float, float, float]


class RefcocoPlusSettings(TaskSettings):
    """The settings of RefCOCO+."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """dropout of the regions' states before the head"""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression and the box that it refers to."""

    expression_id: str
    """``sent_id``, or FILE@BYTE in a released file"""
    image_id: str
    width: int
    height: int
    text: str
    box: Box
    """xyxy in pixels"""
    overlaps: tuple[float, ...] | None = None
    """the overlap of each region with ``box``, if it is from a released file"""


class BoxPrediction(TypedDict):
    """The region that was chosen for an expression."""

    expression_id: str
    region: int
    """its number among the detected regions, from 0"""
    box: list[float]
    """xyxy in pixels"""
    image_id: NotRequired[str]
    """not in a file that was read again"""


class RefcocoPlus(Task[RefcocoPlusSettings, Expression, BoxPrediction]):
    """Chooses one of the regions for each expression."""

    name = "refcoco_plus"
    metric = "accuracy"
    settings_type = RefcocoPlusSettings
    head_type = RegionScoreHead
    released_columns = REFERENCE

    # -------------------------------------------------------------------------------------------------------- files

    def read(self, data: Path, split: str) -> list[Expression]:
        """Reads the sentences of ``refs(unc).p`` in one of `SPLITS`, and their boxes from ``instances.json``.

        An image id is the image's number as text.
        """
        if is_released(split):
            return parse_lines(data / split, REFERENCE, _parse_released)
        if split not in SPLITS:
            raise InputError(f"there is no split {split!r} of RefCOCO+; there are {', '.join(SPLITS)}")
        return _read_refer(data / "refs(unc).p", data / "instances.json", split)

    def write(self, predictions: Sequence[BoxPrediction], path: Path) -> None:
        """Writes a JSON list with the fields of `BoxPrediction`."""
        write_json(predictions, path)

    def read_predictions(self, path: Path) -> list[BoxPrediction]:
        """See `Task.read_predictions`."""
        with expect_layout(path, "a list of expression_id, region and box"):
            return [
                {
                    "expression_id": read_example_id(item["expression_id"]),
                    "region": read_integer(item["region"]),
                    "box": list(_check_box(item["box"])),
                }
                for item in read_json(path)
            ]

    def evaluate(self, predictions: Sequence[BoxPrediction], examples: Sequence[Expression]) -> dict[str, float]:
        """Returns the share of chosen boxes that overlap at least by `HIT` with the box that is meant.

        ``accuracy/+1`` counts the corners of a box as pixels that belong to it. For a released file ``accuracy`` uses
        the overlaps that stand in the file.
        """
        wanted = [expression.expression_id for expression in examples]
        chosen = match_predictions(predictions, wanted, lambda item: item["expression_id"], "expressions")
        hits = {"accuracy": 0, "accuracy/+1": 0}
        for expression, item in zip(examples, chosen, strict=True):
            box, meant = np.array([item["box"]]), np.array([expression.box])
            if expression.overlaps is None:
                overlap = intersection_over_union(box, meant).item()
            elif 0 <= item["region"] < len(expression.overlaps):
                overlap = expression.overlaps[item["region"]]
            else:
                raise InputError(f"{expression.expression_id} has no region {item['region']}")
            hits["accuracy"] += bool(overlap >= HIT)
            hits["accuracy/+1"] += bool(intersection_over_union(box, meant, whole_pixels=True).item() >= HIT)
        return {name: count / len(examples) for name, count in hits.items()}

    # ----------------------------------------------------------------------------------------------------- training

    def make_head(self, config: ModelConfig) -> RegionScoreHead:
        """Makes a head with the dropout of the settings."""
        return RegionScoreHead(config, dropout=self.settings.dropout)

    def collate(
        self,
        split: Split[Expression],
        numbers: Array,
        random: Sequence[np.random.Generator] | None,
    ) -> TaskBatch:
        """Pads expressions to a batch; in training the ground-truth regions follow the detected ones.

        Its labels are ``overlaps``, float32 [B, R] with 0 for overlaps below `HIT`, ``real``, bool [B, R] with False in
        padding, and ``boxes``, float32 [B, R, 4].
        """
        sources = split.sources
        texts, images, boxes, labels = [], [], [], []
        for expression in split.take(numbers):
            row = _join_regions(sources, expression, with_gold=random is not None)
            texts.append(sources.texts.encode(expression.text, self.settings.max_text))
            images.append(ImageRows.from_regions(row))
            boxes.append(np.concatenate([np.zeros((1, 4), np.float32), row.regions.boxes]))
            labels.append(self._compute_overlaps(expression, row))
        inputs = sources.pad(texts, images)
        features = inputs["features"]
        assert features is not None
        shape = features.shape[:2]
        padded_boxes, padded = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.float32)
        real = np.zeros(shape, bool)
        for number, (own, values) in enumerate(zip(boxes, labels, strict=True)):
            padded_boxes[number, : len(own)], padded[number, : len(own)], real[number, : len(own)] = own, values, True
        arrays = {"overlaps": np.where(padded >= HIT, padded, 0), "real": real, "boxes": padded_boxes}
        return TaskBatch(inputs, {name: torch.from_numpy(array) for name, array in arrays.items()})

    def _compute_overlaps(self, expression: Expression, row: RegionsRow) -> Array:
        """Returns float [R]: the overlap of the whole image, then that of each region."""
        x1, y1, x2, y2 = expression.box
        plus_one = self.settings.as_released
        whole = (x2 - x1 + plus_one) * (y2 - y1 + plus_one) / (row.width * row.height)
        if expression.overlaps is None:
            rest = intersection_over_union(row.regions.boxes, np.array([expression.box]), whole_pixels=plus_one)[:, 0]
        else:
            rest = np.array(expression.overlaps)
        if len(rest) != len(row.regions.boxes):
            raise InputError(
                f"{expression.expression_id}: has {len(rest)} overlaps for {len(row.regions.boxes)} regions"
            )
        return np.append(whole, rest)

    def count_targets(self, batch: TaskBatch) -> int:
        """Returns the number of image rows that are not padding."""
        return int(batch.labels["real"].sum())

    def compute_loss_weight(self, batch_size: int) -> float:
        """Returns the batch size: the released loss is the mean over rows, times the batch size."""
        return float(batch_size)

    def compute_loss(self, logits: Tensor, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """See `Task.compute_loss`. A row is right if its logit is above 0 exactly when it overlaps by `HIT`."""
        wanted, real = batch.labels["overlaps"], batch.labels["real"]
        right = ((logits > 0) == (wanted > 0)) & real
        return compute_region_loss(logits, wanted, real), right.sum()

    # --------------------------------------------------------------------------------------------------- predicting

    def predict(self, logits: Tensor, batch: TaskBatch, examples: Sequence[Expression]) -> list[BoxPrediction]:
        """Chooses the best region of each expression, or the whole image if there are no regions."""
        labels = {name: tensor.cpu() for name, tensor in batch.labels.items()}
        regions = logits.masked_fill(~labels["real"], -torch.inf)[:, 1:]
        if regions.shape[1] == 0:
            regions = logits[:, :1]
        best = regions.argmax(1).tolist()
        return [
            {
                "expression_id": expression.expression_id,
                "image_id": expression.image_id,
                "region": region,
                "box": labels["boxes"][number, min(region + 1, labels["boxes"].shape[1] - 1)].tolist(),
            }
            for number, (expression, region) in enumerate(zip(examples, best, strict=True))
        ]


def _join_regions(sources: Sources, expression: Expression, *, with_gold: bool) -> RegionsRow:
    """Returns the detected regions, then the ground-truth ones. In testing these would give the answer away."""
    image_id, gold = expression.image_id, sources.gold if with_gold else None
    rows = [source[image_id] for source in (sources.images, gold) if source is not None and image_id in source]
    if not rows:
        empty = Regions(
            np.zeros((0, 4), np.float32), np.zeros((0, sources.images.feature_size), np.float32), None, None
        )
        return RegionsRow(image_id, expression.width, expression.height, empty)
    for row in rows:
        if (row.width, row.height) != (expression.width, expression.height):
            raise InputError(
                f"image {image_id} is {expression.width} x {expression.height}, but its regions are of an image of "
                f"{row.width} x {row.height}; scale their boxes to the original image"
            )
    boxes, features = (np.concatenate([getattr(row.regions, name) for row in rows]) for name in ("boxes", "features"))
    return RegionsRow(image_id, expression.width, expression.height, Regions(boxes, features, None, None))


def _read_refer(references: Path, instances: Path, split: str) -> list[Expression]:
    try:
        refs = pickles.unpickle(references.read_bytes())
    except OSError as error:
        raise InputError(f"{references}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{references}: {error}") from error
    with expect_layout(instances, "a file of COCO instances"):
        coco = read_json(instances)
        sizes = {read_integer(item["id"]): _read_size(item) for item in coco["images"]}
        boxes = {read_integer(item["id"]): _find_corners(item["bbox"]) for item in coco["annotations"]}
    expressions = []
    with expect_layout(references, "a file of REFER's references"):
        for ref in refs:
            if not _is_in(read_text(ref["split"]), split):
                continue
            image, annotation = read_integer(ref["image_id"]), read_integer(ref["ann_id"])
            if image not in sizes or annotation not in boxes:
                raise InputError(f"{instances}: lacks image {image} or annotation {annotation} of {references}")
            expressions += [
                Expression(
                    read_example_id(sentence["sent_id"]),
                    str(image),
                    *sizes[image],
                    read_text(sentence["sent"]),
                    boxes[annotation],
                )
                for sentence in ref["sentences"]
            ]
    return expressions


def _is_in(annotated: str, split: str) -> bool:
    """Says whether REFER counts an annotation among those of a split."""
    if split == "test":
        return "test" in annotated
    if split in ("testA", "testB", "testC"):
        return split[-1] in annotated
    return annotated == split


def _read_size(item: Mapping[str, object]) -> tuple[int, int]:
    width, height = read_integer(item["width"]), read_integer(item["height"])
    if min(width, height) < 1:
        raise ValueError(f"an image of {width} x {height}")
    return width, height


def _find_corners(box: Sequence[float]) -> Box:
    """Returns the corners xyxy of COCO's x, y, width and height."""
    x, y, width, height = _check_box(box)
    return x, y, x + width, y + height


def _check_box(numbers: Sequence[str | float]) -> Box:
    """Returns the numbers as floats. Raises ValueError if they are not four finite numbers."""
    if len(numbers) != 4 or not np.isfinite(found := [float(number) for number in numbers]).all():
        raise ValueError(f"{list(numbers)} is no box")
    return found[0], found[1], found[2], found[3]


def _parse_released(name: str, fields: Fields) -> Expression:
    """Parses a line of a released file; raises ValueError if it is damaged."""
    return Expression(
        name,
        name,
        parse_integer(fields["img_w"], "img_w"),
        parse_integer(fields["img_h"], "img_h"),
        fields["expression"],
        _check_box(fields["box"].split()),
        tuple(map(float, fields["label"].split())),
    )
