"""Copies the files of a data set in an order in which a kill at any moment leaves nothing that looks whole.

First comes a claim, which names the data set; then the tars, indices and vocabularies; then the card; the manifests
come last, and then the claim goes. A place that holds anything else, or the claim of another data set, is refused. A
rerun finds the claim, or the manifests, and goes on: a file that is there with the right content stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from parsers.checksums import sha256_of
from parsers.command import Advance, InputError
from shards import index
from shards.card.dataset_card import CARD, PLOTS
from shards.manifest import MANIFEST, find_sets, read_manifest
from shards.storage.folders import LocalFolder
from shards.vocabulary import VOCABULARY

CLAIM = "push.json"
State = Literal["missing", "same", "other"]


@dataclass(frozen=True)
class PushedFile:
    """A file of the data set."""

    name: str
    """its path below the folder of the data set, with slashes"""
    path: Path
    size: int
    """in bytes"""
    sha256: str


class Store(Protocol):
    """Where a data set is copied to."""

    url: str
    batch: int
    """how many files are copied at once"""

    def names(self) -> set[str]:
        """Returns the paths of all files there, below the place of the data set."""
        ...

    def compare(self, file: PushedFile) -> State:
        """Compares the content of a file there with what it should be."""
        ...

    def put(self, files: Sequence[PushedFile]) -> None:
        """Copies files, in place of those that are there."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file."""
        ...

    def read(self, name: str) -> bytes:
        """Reads a small file."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file."""
        ...


@dataclass(frozen=True)
class PushReport:
    """What was done."""

    copied: int
    """the files that were not there before"""
    card_differs: bool
    """whether another card is there, which was left as it is"""


def list_files(folder: Path) -> list[PushedFile]:
    """Lists the files of a data set in the order in which they are copied.

    Raises:
        InputError: there is no data set, or a file differs from its checksum in the manifest.
    """
    data, manifests = [], []
    for name, place in find_sets(folder).items():
        local = LocalFolder(place)
        manifest = read_manifest(local, local.sizes())
        prefix = f"{name}/" if name else ""
        expected = {
            **{shard.file: shard.sha256 for shard in manifest.shards},
            **{file.name: file.sha256 for file in index.files_of(manifest)},
            VOCABULARY: manifest.tokenizer.sha256,
        }
        data += [_describe(place / file, prefix + file, sha256) for file, sha256 in expected.items()]
        manifests.append(_describe(place / MANIFEST, prefix + MANIFEST, None))
    card = [_describe(folder / file, file, None) for file in (CARD, PLOTS) if (folder / file).is_file()]
    return [*data, *card, *manifests]


def _describe(path: Path, name: str, expected: str | None) -> PushedFile:
    sha256 = sha256_of(path)
    if expected not in (None, sha256):
        raise InputError(
            f"{path}: its sha256 differs from the manifest's: it was changed or damaged; `ernie-vil inspect verify` "
            "says where"
        )
    return PushedFile(name, path, path.stat().st_size, sha256)


def push(files: Sequence[PushedFile], store: Store, advance: Advance) -> PushReport:
    """Copies files and compares each with its checksum where it was copied to.

    Args:
        files: see `list_files`.
        store: where to.
        advance: is called with the number of files that are done.

    Raises:
        InputError: something else is there, the store fails, or a file differs after it was copied.
    """
    claim = _make_claim(files)
    present = store.names()
    _claim(files, store, present, claim)
    copied, card_differs = 0, False
    for batch in _cut(files, store.batch):
        states = {file: store.compare(file) if file.name in present else "missing" for file in batch}
        kept = {file for file, state in states.items() if state == "other" and file.name == CARD}
        card_differs = card_differs or bool(kept)
        wanted = [file for file, state in states.items() if state != "same" and file not in kept]
        if wanted:
            store.put(wanted)
        for file in wanted:
            if store.compare(file) != "same":
                raise InputError(
                    f"{store.url}/{file.name}: differs from {file.path} after it was copied; run the same command again"
                )
        copied += len(wanted)
        advance(len(batch))
    if CLAIM in store.names():
        store.remove(CLAIM)
    return PushReport(copied, card_differs)


def _make_claim(files: Sequence[PushedFile]) -> bytes:
    """The content of the claim: the checksums of the manifests. It is only ever compared as a whole."""
    manifests = {file.name: file.sha256 for file in files if _is_manifest(file.name)}
    return json.dumps({"manifests": manifests}, indent=1, sort_keys=True).encode()


def _is_manifest(name: str) -> bool:
    return name.rpartition("/")[2] == MANIFEST


def _claim(files: Sequence[PushedFile], store: Store, present: set[str], claim: bytes) -> None:
    """Writes the claim, unless it or the whole data set is there already.

    Raises:
        InputError: something else is there.
    """
    manifests = [file for file in files if _is_manifest(file.name)]
    if all(file.name in present and store.compare(file) == "same" for file in manifests):
        return
    if CLAIM in present:
        if store.read(CLAIM) == claim:
            return
        raise InputError(f"{store.url}: another data set is being copied there ({CLAIM} says so); name another place")
    if strangers := sorted(present - {CARD, ".gitattributes"}):  # the hub makes these two
        what = "another data set" if any(_is_manifest(name) for name in strangers) else "other files"
        raise InputError(f"{store.url}: holds {what} ({strangers[0]}); name an empty place, nothing is overwritten")
    store.write(CLAIM, claim)


def _cut(files: Sequence[PushedFile], size: int) -> Iterator[Sequence[PushedFile]]:
    """Cuts files into batches. A manifest is never in a batch with other files: all of these must be there first."""
    first = next(number for number, file in enumerate(files) if _is_manifest(file.name))
    for part in (files[:first], files[first:]):
        yield from (part[start : start + size] for start in range(0, len(part), size))
