"""Regions as scene_graph_benchmark writes them, the code of VinVL's detector: lines of objects with their features."""

from __future__ import annotations

from collections.abc import Sequence

from parsers.command import InputError
from pipeline.ids import read_id
from pipeline.regions.formats.image_sizes import is_sizes, read_sizes, size_of
from pipeline.regions.formats.tsv import Lines
from pipeline.regions.formats.vinvl_tsv import boxes_of, classify, parse_objects, values_of
from pipeline.regions.rows import NO_CLASSES, argmax_info, make_argmax_row, make_row
from shards.regions.table import RegionsInfo, RegionsRow
from shards.regions.tsv import decode_base64, read_floats
from shards.storage.files import AnyPath


class VinvlObjects(Lines):
    """Reads ``predictions.tsv`` with features: lines of key and JSON, a list or ``objects`` of {rect, feature}.

    A feature is base64 of its numbers. Objects may have ``class`` and ``conf``, which are taken if the names of the
    classes are given. The sizes of the images come from ``hw.tsv`` beside the file, or from COCO's JSON.
    """

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """Returns the sources, and the sizes that lie beside them."""
        files = super().files(sources)
        for path in [path for path in files if not is_sizes(path)]:
            beside = path.with_name("hw.tsv")
            if beside.is_file() and beside not in files:
                files.append(beside)
        return files

    def is_beside(self, path: AnyPath) -> bool:
        """See `Lines.is_beside`."""
        return is_sizes(path)

    def inspect(
        self, sources: Sequence[AnyPath], class_names: list[str] | None, feature_size: int | None = None
    ) -> RegionsInfo:
        """See `RegionFormat`."""
        reason = "there is no line"
        for path in (path for path in sources if not is_sizes(path)):
            with path.open("rb") as stream:
                for line in stream:
                    try:
                        _, objects = _split(line)
                        size = feature_size or len(_features_of(objects)) // (4 * max(len(objects), 1))
                    except ValueError as error:
                        reason = str(error)
                        continue
                    if size and objects:
                        has_classes = class_names is not None and "class" in _names(objects)
                        return argmax_info(size, class_names) if has_classes else RegionsInfo(size, NO_CLASSES, None)
        raise InputError(f"{sources[0]}: no line of objects with their features; the last one: {reason}")

    def row(self, line: bytes, info: RegionsInfo, _: str, beside: Sequence[AnyPath]) -> RegionsRow:
        """See `Lines.row`."""
        image_id, objects = _split(line)
        features = read_floats(_features_of(objects), "features", len(objects), info.feature_size)
        boxes = boxes_of(objects)
        width, height = size_of(image_id, read_sizes(tuple(beside)))
        if info.classes.kind != "argmax":
            return make_row(image_id, width, height, boxes, features, None, info)
        found = classify(objects, info.classes.names or [])
        return make_argmax_row(image_id, width, height, boxes, features, found, info)


def is_vinvl_objects(line: bytes) -> bool:
    """Returns whether a line has this layout."""
    try:
        return "feature" in _names(_split(line)[1])
    except ValueError:
        return False


def _split(line: bytes) -> tuple[str, list[object]]:
    """Returns the image id and the objects of a line.

    Raises:
        ValueError: the line has another layout.
    """
    key, _, text = line.partition(b"\t")
    return read_id(key), parse_objects(text)


def _names(objects: list[object]) -> set[str]:
    """Returns the names of the values of the first object."""
    return set(objects[0]) if objects and isinstance(objects[0], dict) else set()


def _features_of(objects: list[object]) -> bytes:
    """Returns the bytes of all features.

    Raises:
        ValueError: a feature is missing, damaged or longer than another.
    """
    texts = values_of(objects, "feature")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a feature is no text")
    features = [decode_base64(str(text), "feature") for text in texts]
    if len(set(map(len, features))) > 1:
        raise ValueError("the features of the objects differ in length")
    return b"".join(features)
