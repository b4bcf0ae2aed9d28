"""Generated data that the steps share: shards of random regions, and recipes to train on them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import yaml

from benchmarks.gpu.steps import Setting
from benchmarks.samples import BOXES, FEATURES, write_set
from pretrain.model.config import SIZES
from pretrain.recipe import PretrainRecipe
from shards.manifest import MANIFEST
from shards.reader import ShardSet


def shard_folder(setting: Setting) -> Path:
    """Returns a folder of shards of generated images. The first step that asks for it writes it."""
    folder = setting.scratch / "shards"
    if not (folder / MANIFEST).is_file():  # which is written last
        folder.mkdir(exist_ok=True)
        write_set(folder, 64 if setting.tiny else 1024, shard=32 if setting.tiny else 128)
    return folder


def shard_set(setting: Setting) -> ShardSet:
    """Opens the shards of `shard_folder`."""
    return ShardSet(shard_folder(setting))


def recipe_values(model: str, **changes: object) -> dict[str, object]:
    """Returns the values of a recipe for a model of ``configs/model``, or for a file."""
    path = model if model.endswith(".json") else str(SIZES / f"{model}.json")
    return {"model": path, "optimizer": {"learning_rate": 1e-4}, "log_every": 1, "workers": 1, **changes}


def recipe(model: str, **changes: object) -> PretrainRecipe:
    """Returns the recipe with the values of `recipe_values`."""
    return PretrainRecipe.model_validate(recipe_values(model, **changes))


def write_recipe(path: Path, model: str, **changes: object) -> None:
    """Writes the recipe with the values of `recipe_values`."""
    path.write_text(yaml.safe_dump(recipe_values(model, **changes)))


def readers(pairs: int) -> int:
    """Returns how many processes should read batches of ``pairs`` pairs: one for each spare core, if there is room."""
    batch = pairs * (BOXES + 4) * FEATURES * 4
    room = shutil.disk_usage("/dev/shm").free // (3 * batch)
    return min(max(1, len(os.sched_getaffinity(0)) - 2), room)
