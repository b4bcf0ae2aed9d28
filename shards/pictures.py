"""Pictures: which files they are, which image ids their names give, and how they are meant to be seen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np
from PIL import ExifTags, Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of what is decoded. The others are rare, and one of them (EPS) is a program that would be run."""
EXTENSIONS = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"}
EXTENSIONS |= {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif"}
"""By these a folder's pictures are known; how one is decoded follows from its bytes."""

ImageIds = Literal["auto", "stem", "path"]
_ON_THEIR_SIDE = (5, 6, 7, 8)
"""Orientations of EXIF that swap width and height."""
_COCO_NAME = re.compile(r"(?:COCO_\w+_)?(\d{12})")


def image_id_of(name: str, rule: ImageIds) -> str:
    """The image id of a file, ``name`` below the folder that was named.

    ``path`` is the name itself (VCR's ``img_fn``), ``stem`` its last part without the extension (Karpathy's
    Flickr30k), ``auto`` the same, but the number of COCO's names: ``COCO_val2014_000000000042.jpg`` and
    ``000000000042.jpg`` are 42.
    """
    if rule == "path":
        return name
    stem = PurePosixPath(name).stem
    number = _COCO_NAME.fullmatch(stem) if rule == "auto" else None
    return stem if number is None else str(int(number[1]))


def find_pictures(folder: Path, image_ids: Iterable[str]) -> dict[str, Path]:
    """The pictures below a folder that some images have, by image id.

    A picture has every id that `image_id_of` gives its name; of pictures that share one, the first by name counts. For
    an id that no picture has (an address, say), its last part is looked for.
    """
    last = {image_id: PurePosixPath(image_id).name for image_id in image_ids}
    wanted = {*last.keys(), *last.values()}
    found: dict[str, str] = {}
    for place, _, names in os.walk(folder, followlinks=True):
        below = Path(place).relative_to(folder)
        for path in (PurePosixPath(below, name) for name in names):
            if path.suffix and path.suffix.lower() not in EXTENSIONS:
                continue
            for image_id in wanted & {image_id_of(str(path), rule) for rule in get_args(ImageIds)}:
                found[image_id] = min(str(path), found.get(image_id, str(path)))
    known = {image_id: found.get(image_id, found.get(name)) for image_id, name in last.items()}
    return {image_id: folder / path for image_id, path in known.items() if path is not None}


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture as it is meant to be seen: turned as EXIF says, 8 bits, on white, RGB. docs/regions.md has the table.

    Args:
        image: as `PIL.Image.open` gives it, so that its format is known.

    Raises:
        ValueError: the range of its pixels is unknown.
    """
    # Only these two keep 16 bits in a mode of 32.
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise ValueError("32-bit pixels")
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    image = _upright(image)
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow would cut off what is above 255
        values = np.asarray(image)
        grey = (values / 257).round().astype(np.uint8)
        if "transparency" in image.info:  # the value of what is transparent
            grey[values == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert("RGB")


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of a picture as `to_rgb` gives it, from its header alone."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_THEIR_SIDE
    except Exception:  # as below
        turned = False
    width, height = image.size
    return (height, width) if turned else (width, height)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says. Where EXIF is damaged it says nothing: the picture is kept as it is stored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # what decoders raise has no common class
        return image
