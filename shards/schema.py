"""What a sample is: an image with its captions, their scene graphs and word pieces, and the regions of a detector.

A shard is a plain WebDataset tar. It has one sample for each image, so features are stored once however many captions
the image has.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from parsers.command import pluralize
from parsers.graph import SceneGraph, Span, list_runs

OBJECT, ATTRIBUTE, RELATION = 0, 1, 2
"""The values of ``node_kind``."""
KINDS = ("object", "attribute", "relation")
"""The names of the kinds; the position of a name is its value."""
NegativeKind = Literal[
    "swap_object",
    "swap_attribute",
    "swap_relation",
    "replace_object",
    "replace_attribute",
    "replace_relation",
    "replace_number",
    "add_attribute",
]
NEGATIVE_KINDS: tuple[NegativeKind, ...] = get_args(NegativeKind)
"""What was done to a caption to make it false; the position of a name is its value. ``swap_relation`` swaps the subject
and the object of a relation."""
MAX_REGIONS = 100
MAX_SIDE = (1 << 31) - 1
"""The longest side of an image that tables hold, in pixels."""
NORMALIZED = 1.01
"""Boxes of which no corner exceeds this were divided by the size of the image; some divide by a pixel less."""

NEGATIVE_MEMBERS = ("negatives.json", "negatives.npz")
"""The members that hold false captions."""
MEMBERS = ("json", "boxes.npy", "features.npy", "class_ids.npy", "class_probs.npy", "masks.npz", *NEGATIVE_MEMBERS)
"""The members of a sample in the order in which they are stored. Those of the classes and of false captions may be
missing."""

Array = npt.NDArray[Any]
DType = np.dtype[Any]


# ---------------------------------------------------------------------------------------------------------- samples


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption with its scene graph."""

    caption_id: str | None
    text: str
    graph: SceneGraph


@dataclass(frozen=True, slots=True)
class Negative:
    """A false caption of an image: a caption in which some words are others."""

    negative_id: str
    caption: int
    """the number of the true caption among those of the sample"""
    text: str
    kind: str
    """one of `NEGATIVE_KINDS`"""
    spans: tuple[Span, ...]
    """the changed words"""
    graph: SceneGraph


@dataclass(frozen=True, slots=True)
class Masks:
    """The word pieces of all captions of a sample, and the pieces that each node of their graphs covers.

    Neither [CLS] nor [SEP] is stored, and nothing is truncated. Nodes are numbered over the whole sample, see
    `shards.nodes.number_nodes`.

    Example: the captions "red hat" and "man", each word one piece, with the nodes hat, hat-red and man::

        token_offsets       0 2 3       caption 0 has the pieces 0 and 1, caption 1 has the piece 2
        node_kind           0 1 0       object, attribute, object
        node_caption        0 0 1
        node_args           -1 -1, 0 -1, -1 -1    node 1 is an attribute of node 0
        node_tokens         1 0 0       "hat", "red", "man": positions within their own caption
        node_token_offsets  0 1 2 3     each node covers one piece

    An object that a caption mentions several times covers the pieces of all mentions. In "a dog sleeps and it snores"
    the dog covers the pieces 1 and 4.
    """

    token_ids: Array
    """int32 [pieces]"""
    segment_ids: Array
    """uint8 [pieces]: number of the caption's segment that the piece belongs to"""
    token_offsets: Array
    """int32 [captions + 1]: caption c has the pieces ``token_offsets[c]:token_offsets[c + 1]``"""
    node_kind: Array
    """uint8 [nodes]: 0 object, 1 attribute, 2 relation"""
    node_caption: Array
    """int32 [nodes], ascending"""
    node_args: Array
    """int32 [nodes, 2]: for an attribute the node of its object and -1; for a relation the nodes of its subject and
    object; for an object -1 and -1"""
    node_tokens: Array
    """int32: the positions of the pieces of each node, counted from the first piece of its caption; ascending within a
    node"""
    node_token_offsets: Array
    """int32 [nodes + 1]: node n covers ``node_tokens[node_token_offsets[n]:node_token_offsets[n + 1]]``"""

    def nodes(self, caption: int) -> range:
        """The nodes of a caption."""
        first, last = np.searchsorted(self.node_caption, [caption, caption + 1])
        return range(int(first), int(last))

    def tokens(self, node: int) -> Array:
        """int32: the positions of a node's pieces in its caption."""
        tokens: Array = self.node_tokens[self.node_token_offsets[node] : self.node_token_offsets[node + 1]]
        return tokens

    def runs(self, node: int) -> list[list[int]]:
        """The positions of a node's pieces in runs of neighbours. Each run of an object is a mention."""
        return [list(range(first, last + 1)) for first, last in list_runs(self.tokens(node).tolist())]

    def check(self) -> None:
        """Checks that the arrays fit each other.

        Raises:
            ValueError: they do not; the message names an array that does not fit.
        """
        for name, dtype in MASK_DTYPES.items():
            found = getattr(self, name).dtype
            if found != dtype:
                raise ValueError(f"masks.npz: {name} is {found}, expected {dtype}")
        pieces, captions, nodes = len(self.token_ids), len(self.token_offsets) - 1, len(self.node_kind)
        _check_offsets("token_offsets", self.token_offsets, pieces)
        _check_offsets("node_token_offsets", self.node_token_offsets, len(self.node_tokens))
        if len(self.segment_ids) != pieces:
            raise ValueError("masks.npz: segment_ids and token_ids differ in length")
        if len(self.node_caption) != nodes or self.node_args.shape != (nodes, 2):
            raise ValueError("masks.npz: node_kind, node_caption and node_args differ in length")
        if len(self.node_token_offsets) != nodes + 1:
            raise ValueError("masks.npz: node_token_offsets does not fit node_kind")
        if nodes == 0:
            return
        if self.node_kind.max() > RELATION or self.node_caption.min() < 0 or self.node_caption.max() >= captions:
            raise ValueError("masks.npz: a node has an unknown kind or caption")
        if _falls(self.node_caption):
            raise ValueError("masks.npz: node_caption is not ascending")
        given = self.node_args >= 0
        arguments = np.where(given, self.node_args, np.arange(nodes)[:, None])
        if (given.sum(1) != self.node_kind).any() or arguments.max() >= nodes:  # kind 0, 1, 2: as many arguments
            raise ValueError("masks.npz: node_args do not fit node_kind")
        if (self.node_caption[arguments] != self.node_caption[:, None]).any():
            raise ValueError("masks.npz: a node refers to a node of another caption")
        per_node = self.node_token_offsets[1:] - self.node_token_offsets[:-1]
        lengths = (self.token_offsets[1:] - self.token_offsets[:-1])[self.node_caption.repeat(per_node)]
        if (self.node_tokens < 0).any() or (self.node_tokens >= lengths).any():
            raise ValueError("masks.npz: node_tokens leave their caption")


@dataclass(frozen=True, slots=True)
class NegativeMasks:
    """The word pieces of all false captions of a sample.

    Example: the only caption is "red hat", and its false captions are "blue hat" and "red tie". Each word is a piece::

        masks.token_offsets   0 2 4
        captions              0 0
        kinds                 4 3         replace_attribute, replace_object
        changed               1 0 0 1     "blue" and "tie"
    """

    masks: Masks
    """their word pieces and nodes; the false captions are numbered as captions are in the `Masks` of a sample"""
    captions: Array
    """int32 [negatives]: the number of the true caption of each"""
    kinds: Array
    """uint8 [negatives]: positions in `NEGATIVE_KINDS`"""
    changed: Array
    """uint8 [pieces]: 1 for the pieces of words that were changed, else 0"""

    def changed_of(self, negative: int) -> Array:
        """bool: which pieces of a false caption belong to changed words."""
        start, end = self.masks.token_offsets[negative : negative + 2]
        found: Array = self.changed[start:end] > 0
        return found

    def check(self, captions: int) -> None:
        """Checks that the arrays fit each other and a sample with that many captions.

        Raises:
            ValueError: they do not; the message names an array that does not fit.
        """
        self.masks.check()
        for name, dtype in NEGATIVE_DTYPES.items():
            if getattr(self, name).dtype != dtype:
                raise ValueError(f"negatives.npz: {name} is {getattr(self, name).dtype}, expected {dtype}")
        count = len(self.masks.token_offsets) - 1
        if len(self.captions) != count or len(self.kinds) != count:
            raise ValueError("negatives.npz: captions, kinds and token_offsets differ in length")
        if len(self.changed) != len(self.masks.token_ids) or self.changed.max(initial=0) > 1:
            raise ValueError("negatives.npz: changed does not fit token_ids")
        if count and (self.captions.min() < 0 or self.captions.max() >= captions):
            raise ValueError("negatives.npz: a caption that the sample does not have")
        if self.kinds.max(initial=0) >= len(NEGATIVE_KINDS):
            raise ValueError("negatives.npz: an unknown kind")


MASK_DTYPES: dict[str, DType] = {
    "token_ids": np.dtype(np.int32),
    "segment_ids": np.dtype(np.uint8),
    "token_offsets": np.dtype(np.int32),
    "node_kind": np.dtype(np.uint8),
    "node_caption": np.dtype(np.int32),
    "node_args": np.dtype(np.int32),
    "node_tokens": np.dtype(np.int32),
    "node_token_offsets": np.dtype(np.int32),
}
assert tuple(MASK_DTYPES) == tuple(field.name for field in fields(Masks))
NEGATIVE_DTYPES: dict[str, DType] = {
    "captions": np.dtype(np.int32),
    "kinds": np.dtype(np.uint8),
    "changed": np.dtype(np.uint8),
}
"""The types of the arrays that `NegativeMasks` has beside its masks."""


def _falls(array: Array) -> bool:
    return bool((array[1:] < array[:-1]).any())


def _check_offsets(name: str, offsets: Array, end: int) -> None:
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != end or _falls(offsets):
        raise ValueError(f"masks.npz: {name} does not run from 0 to {end}")


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions that a detector found in an image."""

    boxes: Array
    """float32 [n, 4]: x1, y1, x2, y2 in pixels"""
    features: Array
    """float16 [n, d]: what the detector says of the look of each region"""
    class_ids: Array | None = None
    """int16 [n, k]: the k most likely classes, most likely first"""
    class_probs: Array | None = None
    """float16 [n, k]"""

    def check(self, width: int, height: int) -> None:
        """Checks that these can be the regions of an image of that size, in pixels.

        There are 1 to 100 boxes. No number is NaN or infinite. No box is empty or reaches more than a pixel out of the
        image. Class probabilities are not negative, and those of a region sum to at most 1.001.

        Raises:
            ValueError: one of these does not hold; the message says which.
        """
        n = len(self.boxes)
        check_boxes(self.boxes, width, height)
        if self.features.ndim != 2 or len(self.features) != n:
            raise ValueError(f"boxes {self.boxes.shape} and features {self.features.shape} do not fit each other")
        if not _is_finite(self.features):
            raise ValueError("NaN or infinity in the features (as float16)")
        if self.class_ids is None or self.class_probs is None:
            if self.class_ids is not self.class_probs:
                raise ValueError("class ids and class probabilities must be given together")
            return
        if self.class_ids.shape != self.class_probs.shape or len(self.class_ids) != n or self.class_ids.ndim != 2:
            raise ValueError(
                f"class ids {self.class_ids.shape} and probabilities {self.class_probs.shape} do not fit {n} boxes"
            )
        probabilities = self.class_probs.astype(np.float32)  # float16 is slow to compute with
        if (probabilities < 0).any() or not (probabilities.sum(1) <= 1.001).all():
            raise ValueError("class probabilities are negative, not finite or sum to more than 1.001")
        if (self.class_ids < 0).any():
            raise ValueError("a negative class id")


def check_boxes(boxes: Array, width: int, height: int) -> None:
    """Checks that these can be the boxes of regions of an image of that size, as `Regions.check` says.

    Raises:
        ValueError: they cannot; the message says why.
    """
    if width < 1 or height < 1:
        raise ValueError(f"the image size {width} x {height} is not positive")
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"a side of the image is more than {MAX_SIDE:,} pixels")
    if not 1 <= len(boxes) <= MAX_REGIONS:
        raise ValueError(f"{pluralize(len(boxes), 'box')}, expected 1 to {MAX_REGIONS}")
    if boxes.shape != (len(boxes), 4):
        raise ValueError(f"boxes of the shape {boxes.shape}, expected four numbers each")
    if not np.isfinite(boxes).all():
        raise ValueError("NaN or infinity in the boxes")
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError("an empty box")
    if boxes.max() <= NORMALIZED and min(width, height) > 2:
        raise ValueError("all boxes lie within 0..1; boxes are in pixels")
    if boxes.min() < -1 or boxes[:, 2].max() > width + 1 or boxes[:, 3].max() > height + 1:
        raise ValueError(f"a box outside the {width} x {height} image")


def _is_finite(array: Array) -> bool:
    if array.dtype != np.float16:
        return bool(np.isfinite(array).all())
    # Read as integers, NaN and infinity are the largest numbers of their sign. `numpy.isfinite` takes 15 times as long
    # for float16.
    largest = array.view(np.int16).max(initial=0), array.view(np.uint16).max(initial=0)
    return bool(largest[0] < 0x7C00 and largest[1] < 0xFC00)


class Record(NamedTuple):
    """What ``KEY.json`` says of a sample."""

    image_id: str
    width: int
    """of the image, in pixels"""
    height: int
    captions: tuple[Caption, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with its captions and regions, ready to be written."""

    image_id: str
    width: int
    height: int
    captions: tuple[Caption, ...]
    regions: Regions
    masks: Masks
    negatives: tuple[Negative, ...] = ()
    negative_masks: NegativeMasks | None = None
    """None where there are no negatives"""


# ------------------------------------------------------------------------------------------------------------- keys


def key_of(image_id: str) -> str:
    """The name of a sample in the tar: every UTF-8 byte outside [A-Za-z0-9_-] is percent-encoded.

    WebDataset splits names at the first dot, so samples whose ids have dots could otherwise merge with others.
    """
    return quote(image_id, safe="").replace(".", "%2E").replace("~", "%7E")


def image_id_of_key(key: str) -> str:
    """The image id that `key_of` made a key of.

    Raises:
        ValueError: no image id has this key.
    """
    image_id = unquote(key, errors="strict")
    if not key or key_of(image_id) != key:
        raise ValueError(f"{key!r} is not the key of a sample")
    return image_id
