"""``manifest.json``: what holds for a whole set of shards, and which tars belong to it."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from parsers.command import InputError, shorten_json
from shards.schema import ATTRIBUTE, KINDS, OBJECT, RELATION, Sample
from shards.storage.folders import Folder, LocalFolder

MANIFEST = "manifest.json"
SCHEMA_VERSION, WITH_NEGATIVES = 1, 2
"""The versions of the schema: that of sets without false captions, which every release reads, and that of sets with
them."""
_CHECKSUM = "sha256"
_SHOWN = 5
"""how many faults of a manifest a message names"""
ClassKind = Literal["distribution", "top-k", "argmax", "none"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Classes(_Record):
    """The classes of the detector."""

    kind: ClassKind
    """what is stored of a region: ``distribution``: the probabilities of all classes; ``top-k``: the largest ones;
    ``argmax``: one class; ``none``: nothing"""
    count: int | None
    """the number of classes, the background included where it is a class; None if the source does not say"""
    background: int | None
    """the number of the background class"""
    names: list[str] | None


class DetectorInfo(_Record):
    """The detector that found the regions, with the options that decide what it finds."""

    name: str
    options: dict[str, Any] = {}
    """the weights, the preset and the other options that were given"""


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A checksum. The cache names its files so, and no other text may get there."""
Count = Annotated[int, Field(ge=0, lt=1 << 62)]


class TokenizerInfo(_Record):
    """The WordPiece vocabulary, which is stored beside the manifest as ``vocab.txt``."""

    sha256: Sha256
    size: Count
    """the number of word pieces"""


class ParserInfo(_Record):
    """The parser that made the scene graphs."""

    name: str
    version: str


class Totals(_Record):
    """How much a shard, or a set of shards, holds."""

    samples: Count = 0
    captions: Count = 0
    boxes: Count = 0
    tokens: Count = 0
    """word pieces"""
    objects: Count = 0
    attributes: Count = 0
    relations: Count = 0
    negatives: Count = 0
    """false captions; nothing else here counts them or their word pieces and nodes"""

    @model_serializer(mode="wrap")
    def _leave_out_no_negatives(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out that there are no false captions, so that sets without them are as in earlier releases."""
        content: dict[str, Any] = dump(self)
        if self.negatives == 0:
            content.pop("negatives", None)
        return content

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
            negatives=len(sample.negatives),
        )

    def __add__(self, other: Totals) -> Totals:
        return Totals(**{name: value + getattr(other, name) for name, value in self})

    def __sub__(self, other: Totals) -> Totals:
        return Totals(**{name: value - getattr(other, name) for name, value in self})


class ShardInfo(_Record):
    """One tar of a set."""

    file: Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f]+\.tar$")]
    samples: Count
    bytes: Count
    sha256: Sha256


class Manifest(_Record):
    """The content of ``manifest.json``. It is written last, so a folder without it is no finished set of shards."""

    schema_version: int = SCHEMA_VERSION
    tokenizer: TokenizerInfo
    parser: ParserInfo
    feature_size: Count
    """numbers that describe a region"""
    classes: Classes
    detector: DetectorInfo | None = None
    """None: the regions were not found by `pipeline.extract`"""
    totals: Totals
    index_sha256: Sha256 | list[Sha256]
    """the SHA-256 of ``index.parquet``, or of each file where `shards.index` made several"""
    shards: list[ShardInfo]

    @model_serializer(mode="wrap")
    def _leave_out_unknown(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out a detector that nobody knows: sets of earlier releases have none, and a checksum without it."""
        content: dict[str, Any] = dump(self)
        if self.detector is None:
            content.pop("detector", None)
        return content

    @property
    def has_negatives(self) -> bool:
        """Whether the samples of the set may have false captions."""
        return self.schema_version == WITH_NEGATIVES

    @property
    def settings(self) -> Mapping[str, object]:
        """What holds for every sample: the versions, the vocabulary, the parser, the feature size and the classes."""
        return self.model_dump(exclude={"detector", "totals", "index_sha256", "shards"})

    def differences(self, other: Manifest, *, but: Container[str] = ()) -> list[str]:
        """The settings that differ between two manifests, with both values; the names in ``but`` are not compared."""
        ours, theirs = self.settings, other.settings
        return [
            f"{name} {shorten_json(ours[name])} and {shorten_json(theirs[name])}"
            for name in ours
            if name not in but and ours[name] != theirs[name]
        ]

    @property
    def checksum(self) -> str:
        """The SHA-256 of the manifest. It identifies the data, and the order of every epoch depends on it."""
        return hashlib.sha256((self.model_dump_json(indent=1) + "\n").encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """The content of the file, with the checksum as its last value. Equal manifests give equal bytes."""
        content = self.model_dump_json(indent=1).removesuffix("\n}")
        return f'{content},\n "{_CHECKSUM}": "{self.checksum}"\n}}\n'.encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Manifest:
        """The manifest in the content of a file; error messages call the file ``path``.

        Raises:
            InputError: the content is no manifest, it has another schema version, or it differs from its checksum.
        """
        try:
            raw = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise InputError(f"{path}: cannot be read as JSON: {error}") from error
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version not in (SCHEMA_VERSION, WITH_NEGATIVES):
            raise InputError(
                f"{path}: schema version {version!r}, this release reads {SCHEMA_VERSION} and {WITH_NEGATIVES}; "
                "pack the shards again with `python -m pipeline.pack`"
            )
        checksum = raw.pop(_CHECKSUM, None)  # sets of earlier releases have none
        try:
            manifest = cls.model_validate(raw)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:_SHOWN])
            raise InputError(f"{path}: {problems}") from error
        if checksum not in (None, manifest.checksum):
            raise InputError(f"{path}: differs from the {_CHECKSUM} in it: it was damaged or changed; copy it again")
        return manifest


def find_sets(folder: Path) -> dict[str, Path]:
    """The sets of shards in a folder of this machine, by their place in it.

    Returns:
        ``{"": folder}`` if the folder is a set, or else the folders in it that are sets, by name.

    Raises:
        InputError: there are none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    if (folder / MANIFEST).is_file():
        return {"": folder}
    sets = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{MANIFEST}"))}
    if not sets:
        raise InputError(
            f"{folder}: neither a set of shards nor a folder of sets; `ernie-vil pack` writes such a folder"
        )
    return sets


def read_manifest(folder: Folder, files: Container[str]) -> Manifest:
    """Reads ``manifest.json`` from a folder that holds ``files``.

    Raises:
        InputError: the manifest is missing, cannot be read, or has another schema version.
    """
    path = folder.path(MANIFEST)
    if MANIFEST in files:
        try:
            return Manifest.from_bytes(folder.read(MANIFEST), path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error}") from error
    where = path.removesuffix(f"/{MANIFEST}")
    if isinstance(folder, LocalFolder):
        if not folder.folder.is_dir():
            raise InputError(f"{where}: there is no such folder")
        splits = sorted(child.parent.name for child in folder.folder.glob(f"*/{MANIFEST}"))
        if splits:
            raise InputError(
                f"{where}: holds the shard sets {', '.join(splits)}; name one of them, e.g. {folder.folder / splits[0]}"
            )
    raise InputError(
        f"{where}: has no {MANIFEST}, which is written last: either this is no folder of shards, or the command "
        "that writes them did not finish (run it again)"
    )
