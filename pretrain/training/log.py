"""What a run says of itself while it trains."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from pretrain.training.workload import Scores
from shards.files import write_atomic

METRICS = "metrics.jsonl"


class Log:
    """Writes ``metrics.jsonl`` and TensorBoard: each objective's loss and accuracy since the last line."""

    def __init__(self, out: Path, objectives: Sequence[str], step: int, *, enabled: bool) -> None:
        self._path = out / METRICS
        self._objectives = objectives
        self._board: SummaryWriter | None = None
        self._clear()
        if not enabled:
            return
        if self._path.exists():
            # Lines after the checkpoint belong to steps that are run again.
            lines = [line for line in self._path.read_text().splitlines() if json.loads(line)["step"] <= step]
            write_atomic(self._path, "".join(line + "\n" for line in lines).encode())
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step or None)

    def _clear(self) -> None:
        self._sums: list[Scores] = []
        self._samples, self._tokens, self._rate, self._since = 0, 0, 0.0, time.monotonic()

    def add(self, scores: Scores, samples: int, tokens: int, rate: float) -> None:
        """Adds a step, with its figures over all ranks."""
        self._sums.append(scores)
        self._samples, self._tokens, self._rate = self._samples + samples, self._tokens + tokens, rate

    def write(self, step: int) -> None:
        """Ends a line: means over the targets of all steps since the last one."""
        if self._board is not None and self._sums:
            loss, correct, count = (
                torch.stack([getattr(scores, name) for scores in self._sums]).sum(0).tolist()
                for name in ("loss", "correct", "count")
            )
            seconds = time.monotonic() - self._since
            values = {
                f"{what}/{name}": total / n
                for what, totals in (("loss", loss), ("accuracy", correct))
                for name, total, n in zip(self._objectives, totals, count, strict=True)
                if n
            }
            values |= {
                "samples_per_second": self._samples / seconds,
                "tokens_per_second": self._tokens / seconds,
                "learning_rate": self._rate,
            }
            self.write_metrics(step, values)
        self._clear()

    def write_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds a line."""
        if self._board is None or not metrics:
            return
        with self._path.open("a") as stream:
            stream.write(json.dumps({"step": step, **metrics}) + "\n")
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes TensorBoard."""
        if self._board is not None:
            self._board.close()
