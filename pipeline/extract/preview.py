"""Draws the regions of a picture on it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shards.regions.table import RegionsInfo, RegionsRow, label_regions
from shards.schema import Array

COLOURS = ("#ffd43b", "#69db7c", "#4dabf7", "#ff8787", "#da77f2", "#ffa94d", "#38d9a9", "#f783ac")


def draw_regions(pixels: Array, row: RegionsRow, info: RegionsInfo) -> Image.Image:
    """Draws every box with its class, its attribute and the probability of the class; likelier boxes cover others.

    Args:
        pixels: uint8 [height, width, 3], RGB.
        row: the regions of the picture.
        info: the names of classes and attributes.
    """
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    line = max(1, round(max(picture.size) / 400))
    font = ImageFont.load_default(size=max(9, max(picture.size) / 45))
    labels = label_regions(row.regions, info.classes, row.attribute_ids, info.attribute_names)
    labels = labels or [("", 0.0)] * len(row.regions.boxes)
    for rank, number in enumerate(np.argsort([confidence for _, confidence in labels], kind="stable").tolist()):
        name, confidence = labels[number]
        label = f"{name} {confidence:.2f}" if name else ""
        colour = COLOURS[(len(labels) - 1 - rank) % len(COLOURS)]
        x1, y1, x2, y2 = row.regions.boxes[number].tolist()
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=line)
        left, top, right, bottom = draw.textbbox((x1 + line, y1 + line), label, font=font)
        draw.rectangle((left - line, top - line, right + line, bottom + line), fill=colour)
        draw.text((x1 + line, y1 + line), label, fill="black", font=font)
    return picture
