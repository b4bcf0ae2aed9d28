"""The pictures of folders, lists and tars: where they lie, what they are called, and their pixels.

Everything that an input holds becomes an `ImageSource` or a `Reject`. Whatever the bytes of a picture are, they become
RGB pixels or a reject that says why not. docs/regions.md lists how formats and colour modes are treated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from PIL import Image

from parsers.command import InputError, pluralize
from pipeline.execution.parts import Reject
from pipeline.files import fingerprint, list_folder
from pipeline.ids import is_unicode, text_of_id
from pipeline.tars import TarDamage, TarSample, read_samples
from pipeline.text_files import read_items
from shards.pictures import (
    EXTENSIONS,
    MAX_BYTES,
    ImageIds,
    check_picture_file,
    image_id_of_file,
    open_picture,
    to_rgb,
    upright_size,
)
from shards.schema import Array
from shards.storage.files import AnyPath

MIN_SIDE = 16
"""The shortest side that is taken, in pixels. What is smaller is a tracking pixel or an icon."""
MAX_ASPECT = 100
"""How many times as long as the shorter side the longer one may be: detectors shrink it, and something must be left."""

# ------------------------------------------------------------------------------------------------------ where they are


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A picture of an input: a file, or a piece of a tar."""

    image_id: str
    path: AnyPath
    position: str
    offset: int = 0
    size: int = -1
    """the size in bytes; -1: up to the end of the file"""
    boxes: Array | None = None
    """float32 [n, 4]: the boxes that were given for the picture; None: the detector finds boxes"""

    def reject(self, reason: str) -> Reject:
        """Returns a reject that says why the picture cannot be used."""
        return Reject(_printable(str(self.path)), self.position, reason)

    def read(self) -> bytes:
        """Reads the bytes of the picture.

        Raises:
            ValueError: they cannot be read in bounded time and memory.
        """
        if self.size > MAX_BYTES:
            raise ValueError(f"a picture of more than {MAX_BYTES:,} bytes")
        if self.size < 0:
            check_picture_file(self.path)
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            data: bytes = stream.read(self.size)
        return data


@dataclass(frozen=True)
class PictureInput:
    """An input that a user named: a folder, a list, a tar or a picture."""

    path: AnyPath
    kind: Literal["folder", "list", "tar", "picture"]
    image_ids: ImageIds
    root: AnyPath | None = None
    """the folder of a list's pictures; None: the folder of the list"""

    def fingerprint(self) -> dict[str, object]:
        """Returns what changes when the input does. It does not change with a picture that a list names."""
        root = None if self.root is None else str(self.root)
        return {**fingerprint(self.path), "kind": self.kind, "image_ids": self.image_ids, "root": root}

    def sources(self) -> Iterator[ImageSource | Reject]:
        """Yields the pictures in order. They are the same in every call."""
        if self.kind == "folder":
            for file in list_folder(self.path):
                if file.extension == ".tar":
                    yield from _in_tar(self.path / file.name)
                elif file.extension in EXTENSIONS:
                    yield _named(image_id_of_file(file.name, self.image_ids), self.path / file.name)
        elif self.kind == "list":
            yield from _in_list(self.path, self.path.parent if self.root is None else self.root)
        elif self.kind == "tar":
            yield from _in_tar(self.path)
        else:
            yield _named(image_id_of_file(self.path.name, self.image_ids), self.path)

    def bytes(self) -> int:
        """Returns the size of all files of the input."""
        if self.kind == "folder":
            return sum(file.size for file in list_folder(self.path))
        return int(self.path.stat().st_size)

    def count(self) -> int | None:
        """Returns how many pictures there are, or None if tars must be read to know it."""
        if self.kind == "tar" or (self.kind == "folder" and any(f.extension == ".tar" for f in list_folder(self.path))):
            return None
        return sum(1 for _ in self.sources())


def recognise_pictures(path: AnyPath, image_ids: ImageIds, root: AnyPath | None) -> tuple[PictureInput, str]:
    """Finds out from the name of a path which kind of input it is. Of a folder, only the list of its files is read.

    Args:
        path: a folder, a list of pictures (``.json``), a tar (``.tar``), or a picture (any other file).
        image_ids: how the image id of a picture follows from its file name.
        root: the folder that the file names of a list are relative to; None: the folder of the list.

    Returns:
        The input, and a phrase for the user that says what it is: "a list", or "3 pictures and 1 tar; left out: 2 files
        with other names".

    Raises:
        InputError: the path is a folder that holds neither a picture nor a tar.
    """
    if not path.is_dir():
        kind: Literal["list", "tar", "picture"] = (
            "list" if path.suffix == ".json" else "tar" if path.suffix == ".tar" else "picture"
        )
        return PictureInput(path, kind, image_ids, root), f"a {kind}"
    files = list_folder(path)
    tars = sum(file.extension == ".tar" for file in files)
    pictures = sum(file.extension in EXTENSIONS for file in files)
    if not tars and not pictures:
        raise InputError(f"{path}: holds no picture ({', '.join(sorted(EXTENSIONS))}) and no .tar")
    found = " and ".join(pluralize(count, noun) for count, noun in ((pictures, "picture"), (tars, "tar")) if count)
    others = len(files) - tars - pictures
    left = f"; left out: {pluralize(others, 'file')} with other names" if others else ""
    return PictureInput(path, "folder", image_ids, root), f"{found}{left}"


def _named(image_id: str, path: AnyPath) -> ImageSource | Reject:
    source = ImageSource(image_id, path, "the file")
    if not is_unicode(image_id):
        return source.reject("its name is not UTF-8, so it cannot be an image id")
    return source


def _in_list(path: AnyPath, root: AnyPath) -> Iterator[ImageSource | Reject]:
    """Yields the ``images`` of a COCO file, {id, file_name}."""
    for number, image in enumerate(read_items(path, "images")):
        position = f"images[{number}]"
        name = image.get("file_name") if isinstance(image, dict) else None
        image_id = _read_image_id(image.get("id")) if isinstance(image, dict) else None
        if image_id is None or not isinstance(name, str) or not name:
            yield Reject(str(path), position, "no `id` or no `file_name`")
        else:
            yield ImageSource(image_id, root / name, position)


def _in_tar(path: AnyPath) -> Iterator[ImageSource | Reject]:
    """Yields the pictures of img2dataset's samples under the image ids that `pipeline.parse` gives their captions."""
    for sample in read_samples(path, ("json",)):
        if isinstance(sample, TarDamage):
            yield Reject(str(path), sample.position, sample.reason)
            continue
        try:
            yield _in_sample(sample, path)
        except ValueError as error:
            yield Reject(str(path), sample.position, str(error))


def _in_sample(sample: TarSample, path: AnyPath) -> ImageSource:
    """Returns the picture of a sample.

    Raises:
        ValueError: it has no image id, or not exactly one picture.
    """
    image_id = _read_image_id(sample.read_json().get("url") or sample.key)
    if image_id is None:
        raise ValueError("no image id")
    pictures = [place for extension, place in sample.places.items() if f".{extension.lower()}" in EXTENSIONS]
    if len(pictures) != 1:
        raise ValueError(f"{pluralize(len(pictures), 'picture')} in the sample, expected one")
    offset, size = pictures[0]
    return ImageSource(image_id, path, sample.position, offset, size)


def _read_image_id(value: object) -> str | None:
    text = text_of_id(value)
    return text if text is not None and is_unicode(text) else None


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# -------------------------------------------------------------------------------------------------------------- pixels


@dataclass(frozen=True, slots=True)
class Opened:
    """A picture whose header was read, and whose pixels are not decoded yet."""

    image: Image.Image
    shape: tuple[int, int, int]
    """the shape of its pixels: height, width, 3"""

    @property
    def nbytes(self) -> int:
        """The size of its pixels in bytes."""
        return prod(self.shape)

    def pixels(self) -> Array:
        """Decodes the pixels as they are meant to be seen, uint8 [height, width, 3], RGB.

        Raises:
            ValueError: there are none, for the reason that the message gives.
        """
        try:
            self.image.load()
        except Exception as error:  # the errors that decoders raise on hostile bytes have no common class
            raise ValueError(f"damaged or cut off: {_one_line(error)}") from None
        try:
            return np.asarray(to_rgb(self.image))
        except Exception as error:  # see above
            raise ValueError(f"cannot be made RGB: {_one_line(error)}") from None


def load_picture(source: ImageSource) -> Array | Reject:
    """Reads the pixels of a picture, uint8 [height, width, 3], or returns why there are none.

    Raises:
        OSError: a disk or a store failed, which is not the fault of the picture.
    """
    opened = open_source(source)
    return opened if isinstance(opened, Reject) else decode_picture(source, opened)


def decode_picture(source: ImageSource, opened: Opened) -> Array | Reject:
    """Decodes the pixels of an open picture, or returns why there are none."""
    try:
        return opened.pixels()
    except ValueError as error:
        return source.reject(str(error))


def open_source(source: ImageSource) -> Opened | Reject:
    """Reads a picture and its header, or returns why it cannot be used.

    Raises:
        OSError: a disk or a store failed, which is not the fault of the picture.
    """
    try:
        return open_bytes(source.read())
    except FileNotFoundError:
        return source.reject("there is no such file")
    except (IsADirectoryError, PermissionError) as error:
        return source.reject(f"cannot be read: {error.strerror}")
    except ValueError as error:
        return source.reject(str(error))


def open_bytes(data: bytes) -> Opened:
    """Opens a picture, given the bytes of its file.

    Raises:
        ValueError: it cannot be used, for the reason that the message gives.
    """
    image = open_picture(data)
    if min(image.size) < MIN_SIDE:
        raise ValueError(f"a side of less than {MIN_SIDE} pixels")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise ValueError(f"a side more than {MAX_ASPECT} times as long as the other")
    width, height = upright_size(image)
    return Opened(image, (height, width, 3))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
