"""Checkpoints to resume from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import deepspeed

from pretrain.training.world import World
from shards.errors import InputError

LATEST = "latest"


class Checkpoints:
    """The last few checkpoints of a run, in its ``checkpoints/``."""

    def __init__(self, folder: Path, *, keep: int, identity: Mapping[str, Any], world: World) -> None:
        self.folder = folder
        self._keep = keep
        self._identity = {**identity, "ranks": world.size}
        self._world = world

    def exist(self) -> bool:
        """Whether there is one."""
        return (self.folder / LATEST).is_file()

    def save(self, engine: deepspeed.DeepSpeedEngine, step: int, state: Mapping[str, Any]) -> None:
        """Writes a checkpoint; older ones are removed once it is complete."""
        client_state = {**state, "identity": self._identity}
        engine.save_checkpoint(str(self.folder), tag=f"step-{step}", client_state=client_state)
        if self._world.rank == 0:
            tags = sorted(self.folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
            for old in tags[: -self._keep]:
                shutil.rmtree(old)

    def load(self, engine: deepspeed.DeepSpeedEngine) -> dict[str, Any]:
        """Loads the latest checkpoint; returns the state that was saved with it.

        Raises:
            InputError: it cannot be loaded, or was written with other data, another recipe or on other ranks.
        """
        _, state = engine.load_checkpoint(str(self.folder))
        if state is None:
            raise InputError(f"{self.folder}: the checkpoint that {self.folder / LATEST} names cannot be loaded")
        found, wanted = state["identity"], self._identity
        differing = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
        if differing:
            changes = "; ".join(f"{key}: {found.get(key)} -> {wanted.get(key)}" for key in differing)
            raise InputError(
                f"{self.folder} belongs to another run ({changes}); resume with the same, or name another --out"
            )
        return dict(state)
