"""The command ``python -m pipeline.toyworld.recall REGIONS --scenes FILE``: counts the toys that regions cover."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from parsers.command import InputError, pluralize, run, say
from pipeline.files import location
from pipeline.toyworld.scene import Scene
from pipeline.toyworld.write import read_scenes
from shards.boxes import intersection_over_union
from shards.regions.table import RegionsInfo, RegionsRow, open_regions, read_rows
from shards.stage_folder import parts_of
from shards.storage.files import AnyPath

MIN_IOU = 0.5
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil recall data/demo/regions --scenes data/demo/toyworld/scenes.jsonl")
def main(
    regions: Annotated[str, typer.Argument(metavar="REGIONS", help="A folder of regions.")],
    scenes: Annotated[Path, typer.Option(help="The world's scenes.jsonl, which holds the truth.")],
) -> None:
    """Count the toys that a table of regions covers and names.

    A region covers a toy with an IoU of 0.5 or more. It names it if its most likely class is right.
    """
    folder = location(regions)
    info = RegionsInfo.from_file(parts_of(folder)[0])
    if info.classes.kind == "none" or info.classes.names is None:
        raise InputError(f"{folder}: its regions have no classes with names, so none can be right; extract them again")
    found = {row.image_id: row for part in parts_of(folder) for row in _rows(part, info)}
    toys = covered = named = boxes = 0
    for scene in read_scenes(scenes):
        row = found.get(str(scene.image_id))
        toys += len(scene.things)
        if row is not None and scene.things:
            boxes += len(row.regions.boxes)
            hits = recall(scene, row, info)
            covered, named = covered + hits[0], named + hits[1]
    if not toys:
        raise InputError(f"{scenes}: holds no toys to count")
    say(
        f"{pluralize(toys, 'toy')}, {pluralize(boxes, 'region')}; a region covers {covered / toys:.1%} of the "
        f"toys (IoU >= {MIN_IOU}), one of the right class {named / toys:.1%}"
    )


def _rows(part: AnyPath, info: RegionsInfo) -> list[RegionsRow]:
    rows = list(read_rows(open_regions(part).read(), info.feature_size))
    for row in rows:
        if isinstance(row, ValueError):
            raise InputError(f"{part}: {row}; write it again")
        try:
            _check_classes(row, info)
        except ValueError as error:
            raise InputError(f"{part}: image {row.image_id!r}: {error}; write it again") from error
    return [row for row in rows if isinstance(row, RegionsRow)]


def _check_classes(row: RegionsRow, info: RegionsInfo) -> None:
    """Raises ValueError if the regions of an image are not valid, or a class has no name."""
    row.regions.check(row.width, row.height)
    ids = row.regions.class_ids
    if ids is None or not ids.size or ids.max() >= len(info.classes.names or ()):
        raise ValueError("a region has no class, or one without a name")


def recall(scene: Scene, row: RegionsRow, info: RegionsInfo) -> tuple[int, int]:
    """Returns how many toys of a picture some region covers, and how many some region of the right class covers."""
    # Imported late, because PyTorch takes seconds and --help should answer at once.

    ids, probabilities, names = row.regions.class_ids, row.regions.class_probs, info.classes.names
    assert ids is not None
    assert probabilities is not None
    assert names is not None
    best = np.where(ids == info.classes.background, -1, probabilities).argmax(1)
    classes = [names[ids[number, column]] for number, column in enumerate(best.tolist())]
    truth = np.array([[t.box.x1, t.box.y1, t.box.x2, t.box.y2] for t in scene.things], np.float32)
    covering = intersection_over_union(truth, row.regions.boxes) >= MIN_IOU
    right = np.array([[name == thing.shape for name in classes] for thing in scene.things])
    return int(covering.any(1).sum()), int((covering & right).any(1).sum())


if __name__ == "__main__":
    run(app)
