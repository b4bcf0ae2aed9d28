"""RefCOCO+: which region does an expression mean? (https://github.com/lichengunc/refer)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from finetune.heads import RegionHead, region_loss
from finetune.inputs import Batch, Image, Images, Sources
from finetune.released.tsv import LineRegions, is_released, read_lines
from finetune.task import Prediction, Settings, Split, Task
from parsers.command import InputError, pluralize
from pretrain.model.config import ModelConfig
from shards.boxes import overlaps
from shards.regions.table import RegionsRow
from shards.regions.tsv import REFERENCE, Fields, whole_number
from shards.schema import Array, Regions
from shards.storage import pickles
from shards.storage.files import read_json, write_json

SPLITS = ("train", "val", "testA", "testB")
HIT = 0.5
"""A region is right from this overlap with the one that is meant."""

Box = tuple[float, float, float, float]


class RefcocoPlusSettings(Settings):
    """What is done to the regions' states."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """before the last layer"""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression and the box that it means."""

    expression_id: str
    """``sent_id``, or FILE@BYTE in a released file"""
    image_id: str
    width: int
    height: int
    text: str
    box: Box
    """xyxy in pixels"""
    overlaps: tuple[float, ...] | None = None
    """of each region, where a released file says them"""


class RefcocoPlus(Task[RefcocoPlusSettings, Expression]):
    """One of the regions for each expression."""

    name = "refcoco_plus"
    metric = "accuracy"
    settings_type = RefcocoPlusSettings

    # -------------------------------------------------------------------------------------------------------- files

    def read(self, data: Path, split: str) -> list[Expression]:
        """The sentences of ``refs(unc).p`` in one of `SPLITS`, their boxes from ``instances.json``.

        Images are known by the number as text.
        """
        if is_released(split):
            path = data / split
            return [_released(path, place, fields) for place, fields in read_lines(path, REFERENCE)]
        if split not in SPLITS:
            raise InputError(f"there is no split {split!r} of RefCOCO+; there are {', '.join(SPLITS)}")
        return _read_refer(data / "refs(unc).p", data / "instances.json", split)

    def images(self, data: Path, split: str, regions: Images | None) -> Images:
        """See `Task.images`."""
        return LineRegions(data / split, REFERENCE) if is_released(split) else super().images(data, split, regions)

    def write(self, predictions: Sequence[Prediction], path: Path) -> None:
        """A JSON list of the chosen boxes: expression_id, image_id, region (from 0) and box (xyxy in pixels)."""
        write_json(predictions, path)

    def read_predictions(self, path: Path) -> list[Prediction]:
        """See `Task.read_predictions`."""
        try:
            return [
                {
                    "expression_id": str(item["expression_id"]),
                    "region": int(item["region"]),
                    "box": list(_box(item["box"])),
                }
                for item in read_json(path)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: is no list of expression_id, region and box: {error!r}") from error

    def evaluate(self, predictions: Sequence[Prediction], examples: Sequence[Expression]) -> dict[str, float]:
        """The share of boxes that overlap with the one that is meant by at least a half; also with +1 on all sides.

        In a released file ``accuracy`` is by the overlaps that it names.
        """
        chosen = {item["expression_id"]: item for item in predictions}
        wanted = {expression.expression_id for expression in examples}
        if len(chosen) < len(predictions) or chosen.keys() != wanted:
            missing, unknown = len(wanted - chosen.keys()), len(chosen.keys() - wanted)
            raise InputError(
                f"predictions do not fit the {len(wanted)} expressions of the split: {missing} are missing, {unknown} "
                f"belong to others, {len(predictions) - len(chosen)} are repeated"
            )
        hits = {"accuracy": 0, "accuracy/+1": 0}
        for expression in examples:
            item = chosen[expression.expression_id]
            box, meant = np.array([item["box"]]), np.array(expression.box)
            if expression.overlaps is None:
                overlap = overlaps(box, meant)[0]
            elif 0 <= item["region"] < len(expression.overlaps):
                overlap = expression.overlaps[item["region"]]
            else:
                raise InputError(f"{expression.expression_id} has no region {item['region']}")
            hits["accuracy"] += bool(overlap >= HIT)
            hits["accuracy/+1"] += bool(overlaps(box, meant, plus_one=True)[0] >= HIT)
        return {name: count / len(examples) for name, count in hits.items()}

    # ----------------------------------------------------------------------------------------------------- training

    def make_head(self, config: ModelConfig) -> RegionHead:
        """See `Task.make_head`."""
        return RegionHead(config, dropout=self.settings.dropout)

    def collate(
        self,
        split: Split[Expression],
        numbers: Array,
        random: Sequence[np.random.Generator] | None,
    ) -> Batch:
        """Overlaps float32 [B, R], 0 where they are below `HIT`; real bool [B, R]; boxes float32 [B, R, 4]."""
        sources = split.sources
        texts, images, boxes, labels = [], [], [], []
        for expression in split.take(numbers):
            row = _regions(sources, expression, with_gold=random is not None)
            texts.append(sources.texts.text(expression.text, self.settings.max_text))
            images.append(Image.of(row))
            boxes.append(np.concatenate([np.zeros((1, 4), np.float32), row.regions.boxes]))
            labels.append(self._overlaps(expression, row))
        inputs = sources.pad(texts, images)
        features = inputs["features"]
        assert features is not None
        shape = features.shape[:2]
        padded_boxes, padded = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.float32)
        real = np.zeros(shape, bool)
        for number, (own, values) in enumerate(zip(boxes, labels, strict=True)):
            padded_boxes[number, : len(own)], padded[number, : len(own)], real[number, : len(own)] = own, values, True
        arrays = {"overlaps": np.where(padded >= HIT, padded, 0), "real": real, "boxes": padded_boxes}
        return Batch(inputs, {name: torch.from_numpy(array) for name, array in arrays.items()})

    def _overlaps(self, expression: Expression, row: RegionsRow) -> Array:
        """float [R] of the whole image and of every region."""
        x1, y1, x2, y2 = expression.box
        plus_one = self.settings.as_released
        whole = (x2 - x1 + plus_one) * (y2 - y1 + plus_one) / (row.width * row.height)
        if expression.overlaps is None:
            rest = overlaps(row.regions.boxes, np.array(expression.box), plus_one=plus_one)
        else:
            rest = np.array(expression.overlaps)
        if len(rest) != len(row.regions.boxes):
            raise InputError(
                f"{expression.expression_id}: names {pluralize(len(rest), 'overlap')} for "
                f"{pluralize(len(row.regions.boxes), 'region')}"
            )
        return np.append(whole, rest)

    def count_targets(self, batch: Batch) -> int:
        """Image rows."""
        return int(batch.labels["real"].sum())

    def weight(self, batch_size: int) -> float:
        """The released loss is the mean over rows times the batch size."""
        return float(batch_size)

    def score(self, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Task.score`; a row is right if its score is above 0 where, and only where, it overlaps."""
        wanted, real = batch.labels["overlaps"], batch.labels["real"]
        right = ((scores > 0) == (wanted > 0)) & real
        return region_loss(scores, wanted, real), right.sum()

    # --------------------------------------------------------------------------------------------------- predicting

    def predict(self, scores: Tensor, batch: Batch, examples: Sequence[Expression]) -> list[Prediction]:
        """The best region; never the whole image, unless that is all there is."""
        labels = {name: tensor.cpu() for name, tensor in batch.labels.items()}
        regions = scores.masked_fill(~labels["real"], -torch.inf)[:, 1:]
        if regions.shape[1] == 0:
            regions = scores[:, :1]
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


def _regions(sources: Sources, expression: Expression, *, with_gold: bool) -> RegionsRow:
    """The detector's regions; in training then the ground-truth ones, among which the answer would be at hand."""
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
                f"image {image_id} is {expression.width} x {expression.height}, its regions are of one of "
                f"{row.width} x {row.height}; scale their boxes to the original image"
            )
    boxes, features = (np.concatenate([getattr(row.regions, name) for row in rows]) for name in ("boxes", "features"))
    return RegionsRow(image_id, expression.width, expression.height, Regions(boxes, features, None, None))


def _read_refer(references: Path, instances: Path, split: str) -> list[Expression]:
    try:
        refs = pickles.load(references.read_bytes())
    except OSError as error:
        raise InputError(f"{references}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{references}: {error}") from error
    coco = read_json(instances)
    try:
        sizes = {int(item["id"]): (int(item["width"]), int(item["height"])) for item in coco["images"]}
        boxes = {int(item["id"]): _corners(item["bbox"]) for item in coco["annotations"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{instances}: is no file of COCO instances: {error!r}") from error
    expressions = []
    try:
        for ref in refs:
            if ref["split"] != split:
                continue
            image, annotation = int(ref["image_id"]), int(ref["ann_id"])
            if image not in sizes or annotation not in boxes:
                raise InputError(f"{instances}: lacks image {image} or annotation {annotation} of {references}")
            expressions += [
                Expression(
                    str(sentence["sent_id"]), str(image), *sizes[image], str(sentence["sent"]), boxes[annotation]
                )
                for sentence in ref["sentences"]
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{references}: is no file of references: {error!r}") from error
    return expressions


def _corners(box: Sequence[Any]) -> Box:
    """COCO's x, y, width, height as corners."""
    x, y, width, height = _box(box)
    return x, y, x + width, y + height


def _box(numbers: Sequence[Any]) -> Box:
    """Raises ValueError if these are not four finite numbers."""
    if len(numbers) != 4 or not np.isfinite(found := [float(number) for number in numbers]).all():
        raise ValueError(f"{list(numbers)} is no box")
    return found[0], found[1], found[2], found[3]


def _released(path: Path, place: str, fields: Fields) -> Expression:
    try:
        return Expression(
            place,
            place,
            whole_number(fields["img_w"], "img_w"),
            whole_number(fields["img_h"], "img_h"),
            fields["expression"],
            _box(fields["box"].split()),
            tuple(map(float, fields["label"].split())),
        )
    except ValueError as error:
        raise InputError(f"{path}: {place}: {error}") from None
