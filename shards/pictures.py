"""Pictures: which files are pictures, which image ids their names give, and how they become RGB."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from shards.storage.files import AnyPath

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the formats that are decoded. Others are rare, and EPS pictures are programs that would run."""
EXTENSIONS = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"}
EXTENSIONS |= {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif"}
"""Files with these endings are pictures. Their bytes, not their endings, say how they are decoded."""

MAX_PIXELS = 1 << 26
"""67 million pixels: more than cameras have, and few enough for the memory"""
MAX_BYTES = 1 << 28
"""The most bytes of a picture's file: as many as `MAX_PIXELS` take without compression."""
MAX_SCANS = 100
"""How often a JPEG may go over its pixels. Ten times is usual, and a file of thousands of scans would take hours."""
_START_OF_SCAN = b"\xff\xda"

ImageIds = Literal["auto", "stem", "path"]
_ON_THEIR_SIDE = (5, 6, 7, 8)
"""The orientations in EXIF that swap width and height."""
_COCO_NAME = re.compile(r"(?:(?:COCO|coco)_\w+_)?(\d{12})")


def image_id_of_file(name: str, rule: ImageIds) -> str:
    """The image id that a rule gives a file.

    Args:
        name: the path of the file below the folder of pictures.
        rule: ``path`` takes the name itself (VCR's ``img_fn``); ``stem`` takes its last part without the extension
            (Karpathy's Flickr30k); ``auto`` does the same, but takes the number in COCO's names, so that
            ``COCO_val2014_000000000042.jpg`` and ``000000000042.jpg`` become 42.
    """
    if rule == "path":
        return name
    stem = PurePosixPath(name).stem
    number = _COCO_NAME.fullmatch(stem) if rule == "auto" else None
    return stem if number is None else str(int(number[1]))


def find_pictures(folder: Path, image_ids: Iterable[str]) -> dict[str, Path]:
    """Finds the pictures of some images below a folder.

    A picture belongs to every id that a rule of `image_id_of_file` gives its name. If several pictures belong to an id,
    the first by name is taken. If none does, the last part of the id is looked for, because an id may be a web address.

    Returns:
        The paths of the pictures that were found, by image id.
    """
    last = {image_id: PurePosixPath(image_id).name for image_id in image_ids}
    wanted = {*last.keys(), *last.values()}
    found: dict[str, str] = {}
    walked = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in walked:  # a link leads back, and would do so without end
            folders.clear()
            continue
        walked.add((status.st_dev, status.st_ino))
        below = Path(place).relative_to(folder)
        for path in (PurePosixPath(below, name) for name in names):
            if path.suffix and path.suffix.lower() not in EXTENSIONS:
                continue
            for image_id in wanted & {image_id_of_file(str(path), rule) for rule in get_args(ImageIds)}:
                found[image_id] = min(str(path), found.get(image_id, str(path)))
    known = {image_id: found.get(image_id, found.get(name)) for image_id, name in last.items()}
    return {image_id: folder / path for image_id, path in known.items() if path is not None}


def check_picture_file(path: AnyPath) -> None:
    """Checks that the file of a picture can be read in bounded time and memory.

    Raises:
        ValueError: it is a pipe or a device, which may wait or go on for ever, or it is too large.
        OSError: there is no such file.
    """
    status = path.stat()
    if isinstance(path, Path) and not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ValueError("a pipe, a socket or a device, not a file")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"a file of more than {MAX_BYTES:,} bytes")


def open_picture(data: bytes) -> Image.Image:
    """Opens a picture, given the bytes of its file. Its pixels are decoded when they are asked for.

    Raises:
        ValueError: it is no picture, or decoding it would take more than bounded time and memory.
    """
    if not data:
        raise ValueError("an empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("no picture, or of an unknown format") from None
    except Image.DecompressionBombError:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # the errors that decoders raise on hostile bytes have no common class
        raise ValueError(f"damaged or cut off: {' '.join(str(error).split()) or type(error).__name__}") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels")
    if image.format in ("JPEG", "MPO") and data.count(_START_OF_SCAN) > MAX_SCANS:
        raise ValueError(f"a JPEG of more than {MAX_SCANS} scans")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture as it is meant to be seen, in RGB with 8 bits a channel.

    It is turned as its EXIF says. Transparent parts become white. docs/regions.md says what becomes of each mode.

    Args:
        image: what `PIL.Image.open` returned, so that its format is known.

    Raises:
        ValueError: the range of the pixels' values is unknown.
    """
    # Only these two formats keep 16 bits in Pillow's mode of 32 bits.
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise ValueError("32-bit pixels")
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    image = _upright(image)
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow would make all values above 255 white
        values = np.asarray(image)
        grey = (values / 257).round().astype(np.uint8)
        if "transparency" in image.info:  # the value that means transparent
            grey[values == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert("RGB")


def upright_size(image: Image.Image) -> tuple[int, int]:
    """The width and height of what `to_rgb` returns, from the header of the picture alone."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_THEIR_SIDE
    except Exception:  # the errors of decoders have no common class
        turned = False
    width, height = image.size
    return (height, width) if turned else (width, height)


def _upright(image: Image.Image) -> Image.Image:
    """Turns a picture as its EXIF says. A picture with damaged EXIF stays as it is stored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the errors of decoders have no common class
        return image
