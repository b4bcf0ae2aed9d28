"""Changes sets of shards without packing them again: ``python -m shards.edit remove|append|merge ... --out DIR``.

The result is a new set in a new folder. Tars in which nothing changes are hard links to the old ones (copies, if the
folder is on another disk), byte for byte; only the others are written again. The folder gets its name when all is in
it: a kill at any moment leaves the old sets and at most a folder ``DIR.tmp``, which the next run clears away.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer

from shards import index
from shards.console import progress, run, say
from shards.errors import InputError, ShardError
from shards.files import TEMPORARY, check_free_disk, flush
from shards.folders import LocalFolder
from shards.reader import INDEX, MANIFEST, VOCABULARY, ShardSet
from shards.schema import Array, Manifest, Masks, Sample, ShardInfo, Totals, image_id_of, key_of
from shards.verify import verify_vocabulary
from shards.writer import ShardWriter


@dataclass(frozen=True)
class Removal:
    """What is to go from a set."""

    images: frozenset[str] = frozenset()
    """keys of samples"""
    captions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """caption ids by the key of their sample; a sample that has no caption left goes too"""

    @property
    def keys(self) -> frozenset[str]:
        """The samples that change."""
        return self.images | self.captions.keys()


# --------------------------------------------------------------------------------------------------- a sample, smaller


def without(sample: Sample, removal: Removal) -> Sample | None:
    """What is left of a sample; None where that is nothing."""
    key = key_of(sample.image_id)
    if key in removal.images:
        return None
    gone = removal.captions.get(key, frozenset())
    kept = [number for number, caption in enumerate(sample.captions) if caption.caption_id not in gone]
    if len(kept) == len(sample.captions):
        return sample
    if not kept:
        return None
    captions = tuple(sample.captions[number] for number in kept)
    return replace(sample, captions=captions, masks=_take_captions(sample.masks, np.array(kept)))


def _take_captions(masks: Masks, kept: Array) -> Masks:
    """The masks of some captions, which with their nodes are numbered anew."""
    pieces = _positions(masks.token_offsets, kept)
    nodes = np.flatnonzero(np.isin(masks.node_caption, kept))
    number = np.full(len(masks.node_kind) + 1, -1, np.int32)  # the last one is found at -1, no argument
    number[nodes] = np.arange(len(nodes))
    return Masks(
        token_ids=masks.token_ids[pieces],
        segment_ids=masks.segment_ids[pieces],
        token_offsets=_offsets(masks.token_offsets, kept),
        node_kind=masks.node_kind[nodes],
        node_caption=np.searchsorted(kept, masks.node_caption[nodes]).astype(np.int32),
        node_args=number[masks.node_args[nodes]],
        node_tokens=masks.node_tokens[_positions(masks.node_token_offsets, nodes)],
        node_token_offsets=_offsets(masks.node_token_offsets, nodes),
    )


def _positions(offsets: Array, kept: Array) -> Array:
    """The positions of some of the runs that ``offsets`` cuts an array into."""
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(offsets[i], offsets[i + 1]) for i in kept)])


def _offsets(offsets: Array, kept: Array) -> Array:
    return np.append(0, np.cumsum(np.diff(offsets)[kept])).astype(np.int32)


# --------------------------------------------------------------------------------------------------- writing a new set


def write_set(out: Path, parts: Sequence[tuple[ShardSet, Removal]]) -> Manifest:
    """Writes what is left of some sets, one after the other, as a new set.

    Raises:
        InputError: the sets do not fit together, ``out`` is there already, a sample of a tar that must be written again
            is damaged, or the disk is too small.
    """
    sets = [shards for shards, _ in parts]
    check_alike(sets)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already; name another --out folder")
    changed = [{shard for shard, _ in locate(shards, removal.keys).values()} for shards, removal in parts]
    _check_disk(out, sets, changed)
    folder = out.with_name(out.name + TEMPORARY)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    new = _NewSet(folder)
    with progress("edit", sum(len(shards.manifest.shards) for shards in sets), "shards") as advance:
        for (shards, removal), numbers in zip(parts, changed, strict=True):
            for number in range(len(shards.manifest.shards)):
                if number in numbers:
                    new.rewrite(shards, number, removal)
                else:
                    new.link(shards, number)
                advance(1)
    manifest = new.finish(sets)
    folder.replace(out)
    flush(out.absolute().parent)
    return manifest


def locate(shards: ShardSet, keys: Iterable[str]) -> dict[str, tuple[int, int]]:
    """(shard, row) of those of the samples that are there."""
    wanted = pa.array(keys, pa.string())
    positions = pc.index_in(wanted, shards.keys)
    there = positions.is_valid()
    places = shards.places(positions.filter(there).to_numpy()).tolist()
    return {key: (shard, row) for key, (shard, row) in zip(wanted.filter(there).to_pylist(), places, strict=True)}


def check_alike(sets: Sequence[ShardSet]) -> None:
    """Raises InputError unless the sets can be one: on this machine, with the same vocabulary and options."""
    first = sets[0]
    for shards in sets:
        if not isinstance(shards.folder, LocalFolder):
            raise InputError(f"{shards.location} is not on this machine; copy it to a folder first")
        for problem in verify_vocabulary(shards):
            raise InputError(f"{problem.where} {problem.what}")
        a, b = first.manifest.settings, shards.manifest.settings
        differing = [f"{name} {_short(a[name])} and {_short(b[name])}" for name in a if a[name] != b[name]]
        if differing:
            raise InputError(
                f"{first.location} and {shards.location} cannot be one set of shards: {'; '.join(differing)}"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _check_disk(out: Path, sets: Sequence[ShardSet], changed: Sequence[set[int]]) -> None:
    existing = next(path for path in out.absolute().parents if path.exists())
    needed = 0
    for shards, numbers in zip(sets, changed, strict=True):
        needed += shards.files[INDEX]
        linked = existing.stat().st_dev == Path(shards.location).stat().st_dev
        needed += sum(
            info.bytes for number, info in enumerate(shards.manifest.shards) if number in numbers or not linked
        )
    check_free_disk(existing, needed, str(out))


class _NewSet:
    """A set that is being written: its tars first, then index and manifest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._removed = Totals()
        self._tables: list[pa.Table] = []
        self._shards: list[ShardInfo] = []
        self._next = 0

    def link(self, shards: ShardSet, number: int) -> None:
        """Adds a shard as it is."""
        info = shards.manifest.shards[number]
        name = self._name(info.file)
        source, target = Path(shards.folder.path(info.file)), self._folder / name
        try:
            target.hardlink_to(source.resolve())
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(source, target)
            flush(target)
        self._shards.append(info.model_copy(update={"file": name}))
        self._tables.append(shards.index_table(number))

    def rewrite(self, shards: ShardSet, number: int, removal: Removal) -> None:
        """Adds what is left of a shard."""
        kept = []
        for row in range(shards.manifest.shards[number].samples):
            sample = shards.sample(number, row)
            left = without(sample, removal)
            if left is not None and not shards.is_as_written(number, row):
                raise ShardError(
                    f"{shards.where(number, row)} is damaged, and its tar must be written again; restore the tar, or "
                    "remove this image too"
                )
            if left is not sample:
                self._removed += Totals.of(sample)
            if left is not None:
                kept.append(left)
                if left is not sample:
                    self._removed -= Totals.of(left)
        if not kept:
            return
        name = self._name(shards.manifest.shards[number].file)
        with (self._folder / name).open("wb") as stream, ShardWriter(stream, name) as writer:
            for sample in kept:
                writer.write(sample)
        flush(self._folder / name)
        self._shards.append(writer.info)
        self._tables.append(index.to_table(writer.rows))

    def _name(self, file: str) -> str:
        """The shard's old name; the next free number where a shard of an earlier set has it."""
        if any(file == shard.file for shard in self._shards):
            file = f"shard-{self._next:05d}.tar"
        if numbered := re.fullmatch(r"shard-(\d+)\.tar", file):
            self._next = max(self._next, int(numbered[1]) + 1)
        return file

    def finish(self, sets: Sequence[ShardSet]) -> Manifest:
        """Writes vocabulary, index and manifest."""
        (self._folder / VOCABULARY).write_bytes(sets[0].vocabulary_bytes)
        with (self._folder / INDEX).open("wb") as stream:
            index.write(stream, self._tables)
        with (self._folder / INDEX).open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        totals = sum((shards.manifest.totals for shards in sets), Totals()) - self._removed
        changes = {"totals": totals, "index_sha256": sha256, "shards": self._shards}
        manifest = sets[0].manifest.model_copy(update=changes)
        (self._folder / MANIFEST).write_bytes(manifest.to_bytes())
        for path in (*(self._folder / file for file in (VOCABULARY, INDEX, MANIFEST)), self._folder):
            flush(path)
        return manifest


# ------------------------------------------------------------------------------------------------------------ commands

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the new set; it must not be there yet.")]
Set = Annotated[Path, typer.Argument(metavar="SHARDS", help="A folder with a manifest.json, e.g. data/shards/train.")]


@app.command(
    epilog="Example: python -m shards.edit remove data/shards/train --image-ids gone.txt --out data/shards/train-2"
)
def remove(
    location: Set,
    out: Out,
    image_ids: Annotated[Path | None, typer.Option(help="A file with an image id a line: these images go.")] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help='JSON lines {"image_id": ..., "caption_id": ...}: these captions go; an image without any, too.'
        ),
    ] = None,
) -> None:
    """Take images and captions out, for example those that their owners asked to be taken down."""
    if image_ids is None and captions is None:
        raise typer.BadParameter("give --image-ids, --captions or both")
    removal = Removal(
        frozenset() if image_ids is None else _read_image_ids(image_ids),
        {} if captions is None else _read_captions(captions),
    )
    shards = ShardSet(location)
    unknown = _unknown(shards, removal)
    manifest = write_set(out, [(shards, removal)])
    before, after = shards.manifest.totals, manifest.totals
    say(
        f"{out}: {after.samples:,} images, {before.samples - after.samples:,} fewer; "
        f"{after.captions:,} captions, {before.captions - after.captions:,} fewer"
    )
    if unknown:
        more = f" and {len(unknown) - 10:,} more" if len(unknown) > 10 else ""
        say(f"not in {location}: {', '.join(unknown[:10])}{more}")


@app.command(epilog="Example: python -m shards.edit append data/shards/train data/new/train --out data/shards/train-2")
def append(
    location: Set,
    more: Annotated[list[Path], typer.Argument(metavar="MORE...", help="Sets whose images are added.")],
    out: Out,
) -> None:
    """Add the images of other sets. An image that is there already stays as it is: its other version is left out."""
    sets = [ShardSet(folder) for folder in (location, *more)]
    parts = [(sets[0], Removal())]
    for shards in sets[1:]:
        known = pa.chunked_array([chunk for earlier, _ in parts for chunk in earlier.keys.chunks], pa.string())
        keys = shards.keys
        parts.append((shards, Removal(images=frozenset(keys.filter(pc.is_in(keys, value_set=known)).to_pylist()))))
    manifest = write_set(out, parts)
    left_out = sum(len(removal.images) for _, removal in parts)
    added = manifest.totals.samples - len(sets[0])
    say(f"{out}: {manifest.totals.samples:,} images, {added:,} new; {left_out:,} were there already")


@app.command(epilog="Example: python -m shards.edit merge data/coco/train data/cc/train --out data/shards/train")
def merge(
    locations: Annotated[list[Path], typer.Argument(metavar="SHARDS...", help="Two or more sets.")], out: Out
) -> None:
    """Make one set of several. An image that is in two of them is refused."""
    sets = [ShardSet(folder) for folder in locations]
    check_alike(sets)
    twice = index.repeated(pa.chunked_array([chunk for shards in sets for chunk in shards.keys.chunks], pa.string()))
    if twice:
        where = [shards.location for shards in sets if locate(shards, twice[:1])]
        raise InputError(
            f"{len(twice):,} images are there twice, e.g. {image_id_of(twice[0])!r} in {' and '.join(where)}; "
            "`append` keeps the version of the set that is named first"
        )
    manifest = write_set(out, [(shards, Removal()) for shards in sets])
    say(f"{out}: {manifest.totals.samples:,} images in {len(manifest.shards):,} shards")


def _read_lines(path: Path) -> list[str]:
    try:
        # Not splitlines(): an image id may hold U+2028 and its like.
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from error


def _read_image_ids(path: Path) -> frozenset[str]:
    return frozenset(key_of(line) for line in _read_lines(path) if line)


def _read_captions(path: Path) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for number, line in enumerate(_read_lines(path), 1):
        try:
            row = json.loads(line)
            image_id, caption_id = row["image_id"], row["caption_id"]
            if not isinstance(image_id, str) or not isinstance(caption_id, str):
                raise TypeError("ids are strings")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f'{path}, line {number}: expected {{"image_id": "...", "caption_id": "..."}}: {error!r}'
            ) from error
        found.setdefault(key_of(image_id), set()).add(caption_id)
    return {key: frozenset(ids) for key, ids in found.items()}


def _unknown(shards: ShardSet, removal: Removal) -> list[str]:
    """What of a removal is not in the set."""
    places = locate(shards, removal.keys)
    unknown = [f"image {image_id_of(key)!r}" for key in sorted(removal.images - places.keys())]
    for key, ids in sorted(removal.captions.items()):
        there = {caption.caption_id for caption in shards.record(*places[key])[3]} if key in places else set()
        unknown += [f"caption {caption_id!r} of image {image_id_of(key)!r}" for caption_id in sorted(ids - there)]
    return unknown


if __name__ == "__main__":
    run(app)
