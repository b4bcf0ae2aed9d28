"""``run.yaml``: the record of a run, with everything that is needed to repeat it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
import yaml

from parsers.command import InputError
from pretrain.training.distributed import DistributedContext
from pretrain.training.settings import TrainingRecipe
from shards.storage.files import write_atomic

RUN = "run.yaml"
PACKAGE = "ernie-vil-pytorch"


def write_run(
    out: Path, recipe: TrainingRecipe, fingerprint: Mapping[str, object], world: DistributedContext, step: int
) -> None:
    """Writes the recipe and fingerprint of a run, and how it was started. Each resumption adds a start to the list.

    Args:
        out: folder of the run.
        recipe: of the run.
        fingerprint: of the workload, as YAML values.
        world: the ranks.
        step: from which the run starts; 0 begins a new list.

    Raises:
        InputError: the file of a resumed run cannot be read.
    """
    path = out / RUN
    starts = []
    if step and path.is_file():
        try:
            starts = yaml.safe_load(path.read_text(encoding="utf-8"))["starts"]
        except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
            raise InputError(f"{path}: cannot be read: {error}; remove it to go on without its history") from error
    record = {
        "recipe": recipe.model_dump(mode="json"),
        **fingerprint,
        "starts": [*starts, _start(world, step)],
    }
    text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=120)
    write_atomic(path, text.encode())


def _start(world: DistributedContext, step: int) -> dict[str, object]:
    cuda = world.device.type == "cuda"
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "from_step": step,
        "command": [sys.executable, *sys.argv],
        "folder": str(Path.cwd()),
        "ranks": world.size,
        "threads": torch.get_num_threads(),
        "code": {"version": importlib.metadata.version(PACKAGE), **_commit()},
        "hardware": {
            "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "cuda": torch.version.cuda if cuda else None,
        },
        "packages": dict(sorted(_packages())),
    }


def _packages() -> Iterator[tuple[str, str]]:
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata
        yield metadata["Name"], metadata["Version"]


def _commit() -> dict[str, object]:
    """Returns the commit of the code and whether files differ from it; nothing if it is no checkout."""
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "changed": bool(changes.strip())}
