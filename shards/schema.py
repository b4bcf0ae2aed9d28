"""What a shard holds: samples, their members in a tar, and the manifest that describes a set of shards.

A shard is a plain WebDataset tar. One sample per image, so features are stored once however many captions it has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from parsers.command import InputError, pluralize
from parsers.graph import SceneGraph

SCHEMA_VERSION = 1

OBJECT, ATTRIBUTE, RELATION = 0, 1, 2
"""Values of ``node_kind``."""
KINDS = ("object", "attribute", "relation")
MAX_REGIONS = 100

MEMBERS = ("json", "boxes.npy", "features.npy", "class_ids.npy", "class_probs.npy", "masks.npz")
"""The members of a sample in the order they are stored; the two of the classes may be missing."""

Array = npt.NDArray[Any]
ClassKind = Literal["distribution", "top-k", "argmax", "none"]


# ---------------------------------------------------------------------------------------------------------- samples


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption with its scene graph."""

    caption_id: str | None
    text: str
    graph: SceneGraph


@dataclass(frozen=True, slots=True)
class Masks:
    """The word pieces of all captions of a sample and the pieces that each node of their graphs covers.

    Neither [CLS] nor [SEP] is stored and nothing is truncated. Nodes are numbered over the whole sample.
    """

    token_ids: Array
    """int32 [pieces]"""
    segment_ids: Array
    """uint8 [pieces]"""
    token_offsets: Array
    """int32 [captions + 1]: caption c has the pieces ``token_offsets[c]:token_offsets[c + 1]``"""
    node_kind: Array
    """uint8 [nodes]: 0 object, 1 attribute, 2 relation"""
    node_caption: Array
    """int32 [nodes], ascending"""
    node_args: Array
    """int32 [nodes, 2]: attribute: its object's node and -1; relation: subject's and object's nodes; object: -1, -1"""
    node_tokens: Array
    """int32: positions of a node's pieces, counted from its caption's first piece, ascending within a node"""
    node_token_offsets: Array
    """int32 [nodes + 1]"""

    def nodes(self, caption: int) -> range:
        """The nodes of a caption."""
        first, last = np.searchsorted(self.node_caption, [caption, caption + 1])
        return range(int(first), int(last))

    def tokens(self, node: int) -> Array:
        """int32: positions of the node's pieces in its caption."""
        tokens: Array = self.node_tokens[self.node_token_offsets[node] : self.node_token_offsets[node + 1]]
        return tokens

    def check(self) -> None:
        """Raises ValueError if the arrays do not fit each other."""
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


MASK_DTYPES: dict[str, np.dtype[Any]] = {
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


def _falls(array: Array) -> bool:
    return bool((array[1:] < array[:-1]).any())


def _check_offsets(name: str, offsets: Array, end: int) -> None:
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != end or _falls(offsets):
        raise ValueError(f"masks.npz: {name} does not run from 0 to {end}")


@dataclass(frozen=True, slots=True)
class Regions:
    """What a detector found in an image."""

    boxes: Array
    """float32 [n, 4]: x1, y1, x2, y2 in pixels"""
    features: Array
    """float16 [n, d]"""
    class_ids: Array | None = None
    """int16 [n, k]: the k most likely classes, most likely first"""
    class_probs: Array | None = None
    """float16 [n, k]"""

    def check(self, width: int, height: int) -> None:
        """Raises ValueError, with the reason, if these are not the regions of an image of that size.

        One to 100 boxes; no NaN or infinity; no empty box and none more than a pixel outside the image; class
        probabilities not negative and summing to at most 1.001.
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
    """Raises ValueError, with the reason, if these are not the boxes of an image of that size: see `Regions.check`."""
    if width < 1 or height < 1:
        raise ValueError(f"the image size {width} x {height} is not positive")
    if not 1 <= len(boxes) <= MAX_REGIONS:
        raise ValueError(f"{pluralize(len(boxes), 'box')}, expected 1 to {MAX_REGIONS}")
    if boxes.shape != (len(boxes), 4):
        raise ValueError(f"boxes of the shape {boxes.shape}, expected four numbers each")
    if not np.isfinite(boxes).all():
        raise ValueError("NaN or infinity in the boxes")
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError("an empty box")
    if boxes.min() < -1 or boxes[:, 2].max() > width + 1 or boxes[:, 3].max() > height + 1:
        raise ValueError(f"a box outside the {width} x {height} image")


def _is_finite(array: Array) -> bool:
    if array.dtype != np.float16:
        return bool(np.isfinite(array).all())
    # As integers, NaN and infinity are the largest of their sign. `numpy.isfinite` of float16 is 15 times slower.
    largest = array.view(np.int16).max(initial=0), array.view(np.uint16).max(initial=0)
    return bool(largest[0] < 0x7C00 and largest[1] < 0xFC00)


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with its captions, ready to be written."""

    image_id: str
    width: int
    height: int
    captions: tuple[Caption, ...]
    regions: Regions
    masks: Masks


# ------------------------------------------------------------------------------------------------------------- keys


def key_of(image_id: str) -> str:
    """The name of a sample in the tar: every UTF-8 byte outside [A-Za-z0-9_-] is percent-encoded.

    WebDataset splits names at the first dot, so an id with a dot would otherwise merge with its neighbours.
    """
    return quote(image_id, safe="").replace(".", "%2E").replace("~", "%7E")


def image_id_of(key: str) -> str:
    """The inverse of `key_of`.

    Raises:
        ValueError: no image id has this key.
    """
    image_id = unquote(key, errors="strict")
    if not key or key_of(image_id) != key:
        raise ValueError(f"{key!r} is not the key of a sample")
    return image_id


# ---------------------------------------------------------------------------------------------------------- manifest


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Classes(_Record):
    """The classes of the detector."""

    kind: ClassKind
    """``distribution``: all probabilities; ``top-k``: the largest; ``argmax``: one; ``none``"""
    count: int | None
    """number of classes, background included where it has a row; None: the source does not say"""
    background: int | None
    """index of the background class"""
    names: list[str] | None


class TokenizerInfo(_Record):
    """The WordPiece vocabulary, stored beside the manifest as ``vocab.txt``."""

    sha256: str
    size: int


class ParserInfo(_Record):
    """Who parsed the captions."""

    name: str
    version: str


class Totals(_Record):
    """Counts over all shards."""

    samples: int = 0
    captions: int = 0
    boxes: int = 0
    tokens: int = 0
    objects: int = 0
    attributes: int = 0
    relations: int = 0

    @classmethod
    def of(cls, sample: Sample) -> Totals:
        """The counts of one sample."""
        kinds = np.bincount(sample.masks.node_kind, minlength=len(KINDS)).tolist()
        return cls(
            samples=1,
            captions=len(sample.captions),
            boxes=len(sample.regions.boxes),
            tokens=len(sample.masks.token_ids),
            objects=kinds[OBJECT],
            attributes=kinds[ATTRIBUTE],
            relations=kinds[RELATION],
        )

    def __add__(self, other: Totals) -> Totals:
        return Totals(**{name: value + getattr(other, name) for name, value in self})

    def __sub__(self, other: Totals) -> Totals:
        return Totals(**{name: value - getattr(other, name) for name, value in self})


class ShardInfo(_Record):
    """One tar."""

    file: Annotated[str, Field(pattern=r"^[^/\\]+\.tar$")]
    samples: int
    bytes: int
    sha256: str


class Manifest(_Record):
    """``manifest.json``: written last, so a folder without it is not a finished set of shards."""

    schema_version: int = SCHEMA_VERSION
    tokenizer: TokenizerInfo
    parser: ParserInfo
    feature_size: int
    classes: Classes
    totals: Totals
    index_sha256: str | list[str]
    """of ``index.parquet``; of each file, where the set has so many shards that `shards.index` makes several"""
    shards: list[ShardInfo]

    @property
    def settings(self) -> dict[str, Any]:
        """What holds for every sample, whichever shards there are: two sets that agree in it can be one."""
        return self.model_dump(exclude={"totals", "index_sha256", "shards"})

    def differences(self, other: Manifest, *, but: Container[str] = ()) -> list[str]:
        """Which of the `settings` are others in another manifest, with both values."""
        ours, theirs = self.settings, other.settings
        return [
            f"{name} {_short(ours[name])} and {_short(theirs[name])}"
            for name in ours
            if name not in but and ours[name] != theirs[name]
        ]

    @cached_property
    def checksum(self) -> str:
        """sha256 over the whole manifest: names the data, and with it the order of every epoch."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The file's content; equal manifests give equal bytes."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Manifest:
        """The inverse of `to_bytes`; ``path`` is what messages call the file.

        Raises:
            InputError: it is no manifest, or of another schema version.
        """
        try:
            raw = json.loads(data)
        except ValueError as error:
            raise InputError(f"{path}: cannot be read as JSON: {error}") from error
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path}: schema version {version!r}, this release reads {SCHEMA_VERSION}; "
                "pack the shards again with `python -m pipeline.pack`"
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise InputError(f"{path}: {problems}") from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
