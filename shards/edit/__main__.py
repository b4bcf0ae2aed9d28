"""Makes new sets of shards out of others: ``python -m shards.edit remove|append|merge ... --out DIR``.

Nothing is packed again, and the old sets stay as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer

from parsers.command import InputError, pluralize, run, say
from shards import index
from shards.edit.removal import Removal
from shards.edit.rewrite import check_alike, locate, write_set
from shards.reader import ShardSet
from shards.schema import image_id_of_key, key_of
from shards.storage.files import read_text_lines

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Make new sets of shards out of others. The old sets stay as they are.",
)
Out = Annotated[Path, typer.Option(metavar="DIR", help="The folder for the new set. It must not exist yet.")]
Set = Annotated[Path, typer.Argument(metavar="SHARDS", help="A folder with a manifest.json, e.g. data/shards/train.")]


@app.command(epilog="Example: ernie-vil edit remove data/shards/train --image-ids gone.txt --out data/shards/train-2")
def remove(
    location: Set,
    out: Out,
    image_ids: Annotated[
        Path | None, typer.Option(help="Take out these images: a file with one image id a line.")
    ] = None,
    caption_ids: Annotated[
        Path | None,
        typer.Option(
            help='Take out these captions: a file with one {"image_id": ..., "caption_id": ...} a line. An image goes '
            "with its last caption."
        ),
    ] = None,
) -> None:
    """Take out images and captions, for example those that their owners asked to be taken down."""
    if image_ids is None and caption_ids is None:
        raise typer.BadParameter("give --image-ids, --caption-ids or both")
    removal = Removal(
        frozenset() if image_ids is None else _read_image_ids(image_ids),
        {} if caption_ids is None else _read_captions(caption_ids),
    )
    shards = ShardSet(location)
    unknown = _unknown(shards, removal)
    manifest = write_set(out, [(shards, removal)])
    before, after = shards.manifest.totals, manifest.totals
    say(
        f"{out}: {pluralize(after.samples, 'image')}, {before.samples - after.samples:,} fewer; "
        f"{pluralize(after.captions, 'caption')}, {before.captions - after.captions:,} fewer"
    )
    if unknown:
        more = f" and {len(unknown) - 10:,} more" if len(unknown) > 10 else ""
        say(f"not in {location}: {', '.join(unknown[:10])}{more}")


@app.command(epilog="Example: ernie-vil edit append data/shards/train data/new/train --out data/shards/train-2")
def append(
    location: Set,
    more: Annotated[list[Path], typer.Argument(metavar="MORE...", help="The sets whose images are added.")],
    out: Out,
) -> None:
    """Add the images of other sets. An image that is in the first set already stays as it is."""
    sets = [ShardSet(folder) for folder in (location, *more)]
    parts = [(sets[0], Removal())]
    for shards in sets[1:]:
        known = pa.chunked_array([chunk for earlier, _ in parts for chunk in earlier.keys.chunks], pa.string())
        keys = shards.keys
        parts.append((shards, Removal(images=frozenset(keys.filter(pc.is_in(keys, value_set=known)).to_pylist()))))
    manifest = write_set(out, parts)
    left_out = sum(len(removal.images) for _, removal in parts)
    added = manifest.totals.samples - len(sets[0])
    images = pluralize(manifest.totals.samples, "image")
    say(f"{out}: {images}, {added:,} new; {left_out:,} left out, because the set had them")


@app.command(epilog="Example: ernie-vil edit merge data/coco/train data/cc/train --out data/shards/train")
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
            f"the sets share {pluralize(len(twice), 'image')}, e.g. {image_id_of_key(twice[0])!r} in "
            f"{' and '.join(where)}; "
            "`append` keeps the version of the set that is named first"
        )
    manifest = write_set(out, [(shards, Removal()) for shards in sets])
    say(f"{out}: {pluralize(manifest.totals.samples, 'image')} in {pluralize(len(manifest.shards), 'shard')}")


def _read_image_ids(path: Path) -> frozenset[str]:
    return frozenset(key_of(line) for line in read_text_lines(path) if line)


def _read_captions(path: Path) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for number, line in enumerate(read_text_lines(path) or [""], 1):
        try:
            row = json.loads(line)
            image_id, caption_id = row["image_id"], row["caption_id"]
            if not isinstance(image_id, str) or not isinstance(caption_id, str) or not image_id:
                raise TypeError("ids are strings, and an image id is not empty")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f'{path}, line {number}: expected {{"image_id": "...", "caption_id": "..."}}: {error!r}'
            ) from error
        found.setdefault(key_of(image_id), set()).add(caption_id)
    return {key: frozenset(ids) for key, ids in found.items()}


def _unknown(shards: ShardSet, removal: Removal) -> list[str]:
    """The images and captions of a removal that are not in the set, named for people."""
    places = locate(shards, removal.keys)
    unknown = [f"image {image_id_of_key(key)!r}" for key in sorted(removal.images - places.keys())]
    for key, ids in sorted(removal.captions.items()):
        there = {caption.caption_id for caption in shards.record(*places[key]).captions} if key in places else set()
        unknown += [f"caption {caption_id!r} of image {image_id_of_key(key)!r}" for caption_id in sorted(ids - there)]
    return unknown


if __name__ == "__main__":
    run(app)
