"""Regions as VinVL publishes them: tab-separated lines whose features end with the box."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from parsers.command import InputError
from pipeline.ids import read_id
from pipeline.regions.formats.image_sizes import is_sizes, read_sizes, size_of, to_pixels
from pipeline.regions.formats.tsv import Lines
from pipeline.regions.rows import NO_CLASSES, ArgMax, argmax_info, make_argmax_row, make_row
from shards.regions.table import RegionsInfo, RegionsRow
from shards.regions.tsv import check_spread, decode_base64, parse_integer, read_floats
from shards.schema import Array
from shards.storage.files import AnyPath

BOX = 6
"""The last numbers of a feature: x1, y1, x2, y2, width and height of the box as shares of the image."""
TOLERANCE = 2.0
"""pixels by which a box of the labels may differ from the one in the features, which rounds"""


class VinvlTsv(Lines):
    """Reads VinVL's features: lines of key, number of boxes and base64, or of key and JSON of the latter two.

    The names in the JSON are ``num_boxes`` and ``features``. A feature has 2,054 float32 numbers: 2,048 and the box as
    shares of the image. The labels beside the features (a file called ``label`` instead of ``feature``, or
    ``predictions.tsv``) are lines of key and JSON: a list, or ``objects``, of {class, conf, rect} in the order of the
    boxes. From them come the size of the image and, if the names of the classes are given, the most likely class of
    each box. Without labels the sizes come from ``hw.tsv`` or COCO's JSON.
    """

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """Returns the sources, and the sizes and labels that lie beside them."""
        files = super().files(sources)
        for path in [path for path in files if not self.is_beside(path)]:
            for name in ("hw.tsv", path.name.replace("feature", "label"), "predictions.tsv"):
                beside = path.with_name(name)
                if beside.is_file() and beside not in files:
                    files.append(beside)
        return files

    def is_beside(self, path: AnyPath) -> bool:
        """See `Lines.is_beside`."""
        return is_sizes(path) or _is_labels(path)

    def inspect(
        self, sources: Sequence[AnyPath], class_names: list[str] | None, feature_size: int | None = None
    ) -> RegionsInfo:
        """See `RegionFormat`."""
        files = self.files(sources)
        reason = "there is no line"
        for path in (path for path in files if not self.is_beside(path)):
            with path.open("rb") as stream:
                for line in stream:
                    try:
                        _, n, data = _split(line)
                        size = feature_size or len(data) // (4 * max(n, 1)) - BOX
                    except ValueError as error:
                        reason = str(error)
                        continue
                    if size > 0 and n > 0:
                        has_classes = class_names is not None and any(map(_is_labels, files))
                        return argmax_info(size, class_names) if has_classes else RegionsInfo(size, NO_CLASSES, None)
        raise InputError(f"{sources[0]}: no line of VinVL's features; the last one: {reason}")

    def row(self, line: bytes, info: RegionsInfo, _: str, beside: Sequence[AnyPath]) -> RegionsRow:
        """See `Lines.row`."""
        key, n, data = _split(line)
        values = read_floats(data, "features", n, info.feature_size + BOX)
        features, shares = values[:, :-BOX], values[:, -BOX:]
        check_spread(np.ascontiguousarray(features), "features")
        if not np.allclose(shares[:, 4:], shares[:, 2:4] - shares[:, :2], atol=0.02):
            raise ValueError(f"the last {BOX} numbers of a feature are no box with its width and height")
        image_id = read_id(key)
        objects = _find_labels(key, tuple(path for path in beside if _is_labels(path)))
        width, height = _measure(image_id, shares, objects, tuple(path for path in beside if is_sizes(path)))
        boxes = to_pixels(shares, width, height)
        if info.classes.kind != "argmax":
            return make_row(image_id, width, height, boxes, features, None, info)
        if objects is None:
            raise ValueError("the image has no labels")
        return make_argmax_row(
            image_id, width, height, boxes, features, classify(objects, info.classes.names or []), info
        )


def is_vinvl(line: bytes) -> bool:
    """Returns whether a line has VinVL's layout."""
    try:
        _split(line)
    except ValueError:
        return False
    return True


def _is_labels(path: AnyPath) -> bool:
    return "label" in path.name or "predictions" in path.name


def _split(line: bytes) -> tuple[str, int, bytes]:
    """Returns the key, the number of boxes and the bytes of the features of a line.

    Raises:
        ValueError: the line has another layout.
    """
    try:
        key, *fields = line.rstrip(b"\r\n").decode().split("\t")
        if len(fields) == 1:
            record = json.loads(fields[0])
            fields = [record["num_boxes"], record["features"]]
        number, features = fields
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ValueError("the line is neither key, number, base64 nor key and JSON of num_boxes and features") from None
    if not isinstance(features, str):
        raise ValueError("features is no text")
    return key, parse_integer(number, "num_boxes"), decode_base64(features, "features")


@lru_cache(maxsize=4)  # a worker reads it once, not for each partition
def _places(path: AnyPath) -> Mapping[str, int]:
    """Returns where the line of each key begins, in bytes. Memory grows by about 150 bytes with each image."""
    places: dict[str, int] = {}
    with path.open("rb") as stream:
        start = 0
        for line in stream:
            places[line.partition(b"\t")[0].decode(errors="replace")] = start
            start += len(line)
    return places


def _find_labels(key: str, paths: tuple[AnyPath, ...]) -> list[object] | None:
    """Returns the objects that the labels name in an image; None if there are no labels of it."""
    path = next((path for path in paths if key in _places(path)), None)
    if path is None:
        return None
    with path.open("rb") as stream:
        stream.seek(_places(path)[key])
        text = stream.readline().partition(b"\t")[2]
    return parse_objects(text)


def parse_objects(text: bytes) -> list[object]:
    """Returns the objects in the JSON of an image, which is a list, or has one called ``objects``.

    Raises:
        ValueError: it is no such JSON.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the objects of the image are no JSON") from None
    objects = found.get("objects") if isinstance(found, dict) else found
    if not isinstance(objects, list):
        raise ValueError("the JSON of the image is no list of objects")
    return objects


def values_of(objects: list[object], name: str) -> list[object]:
    """Returns the value of each object that has this name.

    Raises:
        ValueError: an object has none.
    """
    if not all(isinstance(found, dict) and name in found for found in objects):
        raise ValueError(f"an object of the image has no `{name}`")
    return [found[name] for found in objects if isinstance(found, dict)]


def boxes_of(objects: list[object]) -> Array:
    """Returns the ``rect`` of each object, float32 [n, 4].

    Raises:
        ValueError: one is missing or not four numbers.
    """
    rectangles = values_of(objects, "rect")
    try:
        return np.array(rectangles, np.float32).reshape(len(objects), 4)
    except (TypeError, ValueError):
        raise ValueError("a `rect` of the objects is not four numbers") from None


def _measure(image_id: str, shares: Array, objects: list[object] | None, sizes: tuple[AnyPath, ...]) -> tuple[int, int]:
    """Returns the width and the height of an image: its known size, or what the labels' boxes say.

    Raises:
        ValueError: neither is known, or the labels have other boxes than the features.
    """
    if objects is None:
        return size_of(image_id, read_sizes(sizes))
    corners = boxes_of(objects)
    if len(corners) != len(shares):
        raise ValueError(f"the labels have {len(corners)} boxes, the features {len(shares)}")
    if sizes:
        width, height = size_of(image_id, read_sizes(sizes))
    else:
        width, height = infer_size(corners, shares)
    with np.errstate(invalid="ignore"):  # NaN is not close to anything
        fit = np.abs(corners - to_pixels(shares, width, height)) <= TOLERANCE
    if not fit.all():
        raise ValueError("the boxes of the labels are not those of the features")
    return width, height


def infer_size(pixels: Array, shares: Array) -> tuple[int, int]:
    """Returns the width and the height of an image, given boxes in pixels and as shares of the image.

    Raises:
        ValueError: they do not tell.
    """
    sides = []
    for axis in (2, 3):
        largest = int(shares[:, axis].argmax()) if len(shares) else 0
        if not len(shares) or not 0 < shares[largest, axis] <= 1.01 or not np.isfinite(pixels[largest, axis]):
            raise ValueError("the boxes do not tell the size of the image")
        sides.append(round(float(pixels[largest, axis]) / float(shares[largest, axis])))
    return sides[0], sides[1]


def classify(objects: list[object], names: Sequence[str]) -> ArgMax:
    """Returns the class of each object.

    Raises:
        ValueError: a class is none of the names, or a `conf` no number.
    """
    numbers = {name: number for number, name in enumerate(names)}
    classes = values_of(objects, "class")
    unknown = next((name for name in classes if not isinstance(name, str) or name not in numbers), None)
    if unknown is not None:
        raise ValueError("a class of the objects is none of the class names")
    shares = values_of(objects, "conf")
    try:
        confidence = np.array(shares, np.float32)
    except (TypeError, ValueError):
        raise ValueError("a `conf` of the objects is no number") from None
    return ArgMax(np.array([numbers[str(name)] for name in classes], np.int64), confidence)
