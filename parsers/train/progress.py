"""The state of a network in training is kept after each epoch, so that a run that was stopped goes on from there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from parsers.command import say
from parsers.neural.tokenizer import TokenizedCaption

STATE = "state.pt"
"""The file in the folder of the network. It is removed when the network is ready."""


class Progress:
    """Keeps all that the next epoch depends on.

    Args:
        path: the file of the state.
        run: what tells this run from others; the state of another run is not used.
        network: the network.
        averaged: its weights averaged over steps.
        optimizer: what trains it.
        rng: draws the batches.
    """

    def __init__(
        self,
        path: Path,
        run: str,
        network: nn.Module,
        averaged: nn.Module,
        optimizer: torch.optim.Optimizer,
        rng: np.random.Generator,
    ) -> None:
        self.epochs = 0
        """epochs that are done"""
        self.steps = 0
        """steps that are done"""
        self.report: dict[str, object] = {}
        """what was said of the last epoch"""
        self._path, self._run, self._network, self._rng = path, run, network, rng
        self._averaged, self._optimizer = averaged, optimizer

    def resume(self) -> None:
        """Goes on after the last epoch of the same run, if it was stopped."""
        if not self._path.is_file():
            return
        state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        if state["run"] != self._run:
            say(f"{self._path}: was left by a run on other captions or by another recipe, and is not used")
            return
        self._network.load_state_dict(state["network"])
        self._averaged.load_state_dict(state["averaged"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._rng.bit_generator.state = state["order"]
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self.epochs, self.steps, self.report = state["epochs"], state["steps"], state["report"]
        say(f"going on after epoch {self.epochs}")

    def save(self, report: dict[str, object]) -> None:
        """Writes the state after another epoch. Until it is there as a whole, the one before stays."""
        self.epochs, self.report = self.epochs + 1, report
        state = {
            "run": self._run,
            "network": self._network.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "order": self._rng.bit_generator.state,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "epochs": self.epochs,
            "steps": self.steps,
            "report": report,
        }
        temporary = self._path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._path)

    def remove(self) -> None:
        """Removes the state of a run that has come to its end."""
        self._path.unlink(missing_ok=True)


def name_run(captions: Iterable[TokenizedCaption], *others: object) -> str:
    """Returns what tells a run from others: a checksum of its captions and of how the other things are written."""
    checksum = hashlib.sha256(repr(others).encode())
    for words in captions:
        checksum.update("\n".join(words.forms).encode() + b"\0")
    return checksum.hexdigest()[:16]
