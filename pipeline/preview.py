"""A picture with its regions drawn on it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shards.regions import RegionsInfo, RegionsRow
from shards.schema import Array

COLOURS = ("#ffd43b", "#69db7c", "#4dabf7", "#ff8787", "#da77f2", "#ffa94d", "#38d9a9", "#f783ac")


def draw_regions(pixels: Array, row: RegionsRow, info: RegionsInfo) -> Image.Image:
    """Every box with its class, its attribute and the probability of the class, the least likely ones below the others.

    Args:
        pixels: uint8 [height, width, 3], RGB.
        row: the regions of that picture.
        info: the names of classes and attributes.
    """
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    line = max(1, round(max(picture.size) / 400))
    font = ImageFont.load_default(size=max(9, max(picture.size) / 45))
    labels, confidences = label_regions(row, info)
    for rank, number in enumerate(np.argsort(confidences, kind="stable").tolist()):
        colour = COLOURS[(len(labels) - 1 - rank) % len(COLOURS)]
        x1, y1, x2, y2 = row.regions.boxes[number].tolist()
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=line)
        left, top, right, bottom = draw.textbbox((x1 + line, y1 + line), labels[number], font=font)
        draw.rectangle((left - line, top - line, right + line, bottom + line), fill=colour)
        draw.text((x1 + line, y1 + line), labels[number], fill="black", font=font)
    return picture


def label_regions(row: RegionsRow, info: RegionsInfo) -> tuple[list[str], list[float]]:
    """(labels, probabilities of the classes): of each box the likeliest class that is not the background."""
    ids, probabilities = row.regions.class_ids, row.regions.class_probs
    if ids is None or probabilities is None:
        return [""] * len(row.regions.boxes), [0.0] * len(row.regions.boxes)
    shown = np.where(ids == info.classes.background, -1, probabilities.astype(np.float32))
    chosen = shown.argmax(axis=1)
    labels, confidences = [], []
    for number, column in enumerate(chosen.tolist()):
        names = info.classes.names or []
        words = [names[ids[number, column]]]
        if row.attribute_ids is not None and info.attribute_names is not None:
            words.insert(0, info.attribute_names[row.attribute_ids[number, 0]])
        confidences.append(float(probabilities[number, column]))
        labels.append(f"{' '.join(words)} {confidences[-1]:.2f}")
    return labels, confidences
