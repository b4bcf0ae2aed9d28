"""The training loop on DeepSpeed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor

from pretrain.training.checkpoints import Checkpoints
from pretrain.training.loader import load_steps
from pretrain.training.log import Log
from pretrain.training.recipe import TrainingRecipe
from pretrain.training.workload import Batch, Scores, Workload
from pretrain.training.world import World
from shards.console import progress
from shards.errors import InputError

FREE = {
    "workers",
    "log_every",
    "evaluate_every",
    "evaluate_steps",
    "checkpoint_every",
    "keep_checkpoints",
}
"""Keys of a recipe that may change when a run is resumed."""


class Trainer(Generic[Batch]):
    """One run on this rank."""

    def __init__(self, workload: Workload[Batch], recipe: TrainingRecipe, out: Path, world: World) -> None:
        self.workload, self.recipe, self.out, self.world = workload, recipe, out, world
        self.steps = recipe.total_steps(workload.steps_per_epoch)
        self.engine, *_ = deepspeed.initialize(
            model=workload.model,
            optimizer=workload.make_optimizer(),
            config=deepspeed_config(recipe, world.size),
        )
        self.weights = torch.tensor(workload.weights, dtype=torch.float64, device=world.device)
        self.checkpoints = Checkpoints(
            out / "checkpoints", keep=recipe.keep_checkpoints, identity=self._identity(), world=world
        )
        self.step = 0
        self.best: float | None = None
        self.evaluations_since_best = 0

    # ---------------------------------------------------------------------------------------------------------- loop

    def train(self, *, resume: bool = False) -> dict[str, float]:
        """Runs the steps that are left and exports the model to ``model/``; returns the metrics of the last evaluation.

        Raises:
            InputError: there is a run already and it is not to be resumed, or it is another one.
        """
        if self.checkpoints.exist():
            if not resume:
                raise InputError(f"{self.out} holds a run; add --resume to continue it, or name another --out")
            self._resume()
        self.out.mkdir(parents=True, exist_ok=True)
        recipe, metrics = self.recipe, None
        log = Log(self.out, self.workload.objectives, self.step, enabled=self.world.rank == 0)
        dataset = self.workload.dataset(self.world.rank, self.world.size)
        steps = range(self.step, self.step if self._stops_early() else self.steps)
        with progress("train", len(steps), "steps") as advance:
            for micro_batches in load_steps(dataset, steps, workers=recipe.workers):
                log.add(*self.train_step(micro_batches))
                self.step += 1
                if self.world.rank == 0:
                    advance(1)
                last, metrics = self.step == self.steps, None
                if self._due(recipe.log_every) or self._due(recipe.checkpoint_every) or last:
                    log.write(self.step)
                if self._due(recipe.evaluate_every) or last:
                    metrics = self.evaluate()
                    log.write_metrics(self.step, metrics)
                    last = last or self._stops_early()
                if self._due(recipe.checkpoint_every) or last:
                    self._save()
                if last:
                    break
        log.close()
        self._export(self.out / "model")
        return self.evaluate() if metrics is None else metrics

    def train_step(self, micro_batches: Sequence[Batch]) -> tuple[Scores, int, int, float]:
        """One optimiser step over a global batch.

        Returns its scores, samples and tokens over all ranks, and the learning rate.
        """
        workload, world = self.workload, self.world
        sizes = [sum(batch.samples() for batch in micro_batches), sum(batch.tokens() for batch in micro_batches)]
        micro_batches = [batch.to(world.device) for batch in micro_batches]
        counts = world.all_reduce(torch.stack([workload.count_targets(batch) for batch in micro_batches]).sum(0))
        rate = workload.prepare_step(self.engine.optimizer, self.step, self.steps)
        # Dropout follows from (seed, step, rank), so that a resumed run draws what the undisturbed one would have.
        torch.manual_seed((self.recipe.seed * 1_000_003 + self.step) * 65_537 + world.rank)
        loss_sum, correct = torch.zeros_like(counts), torch.zeros_like(counts)
        for batch in micro_batches:
            scores = workload.score(self.engine, batch)
            loss = (self.weights * scores.loss / counts.clamp(min=1)).sum()
            # DeepSpeed divides by ranks and micro-batches; the loss is normalised already.
            self.engine.backward(loss.float() * world.size * self.recipe.accumulation)
            self.engine.step()
            loss_sum += scores.loss.detach()
            correct += scores.correct
        reduced = world.all_reduce(torch.cat([loss_sum, correct, loss_sum.new_tensor(sizes)]))
        n = len(workload.objectives)
        loss_sum, correct, (samples, tokens) = reduced[:n], reduced[n : 2 * n], reduced[2 * n :].tolist()
        if not bool(torch.isfinite(loss_sum).all()):
            raise InputError(f"step {self.step}: the loss is not finite; lower the learning rate or use fp32")
        return Scores(loss_sum, correct, counts), int(samples), int(tokens), rate

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    # ---------------------------------------------------------------------------------------------------- evaluation

    def evaluate(self) -> dict[str, float]:
        """The metrics of the model; the best one so far is exported to ``best/``.

        Raises:
            InputError: the recipe asks for the best of a metric that there is not.
        """
        self.engine.eval()
        with torch.no_grad():
            metrics = dict(self.workload.evaluate(self.engine.module, self.world))
        self.engine.train()
        best = self.recipe.best
        if best is not None:
            if best.metric not in metrics:
                raise InputError(f"best.metric: there is no {best.metric!r}; there are {', '.join(metrics) or 'none'}")
            value = metrics[best.metric]
            if self.best is None or (value < self.best if best.mode == "min" else value > self.best):
                self.best, self.evaluations_since_best = value, 0
                self._export(self.out / "best")
            else:
                self.evaluations_since_best += 1
        return metrics

    def _stops_early(self) -> bool:
        best = self.recipe.best
        return best is not None and 0 < best.patience <= self.evaluations_since_best

    # --------------------------------------------------------------------------------------- checkpoints and weights

    def _save(self) -> None:
        state = {"step": self.step, "best": self.best, "evaluations_since_best": self.evaluations_since_best}
        self.checkpoints.save(self.engine, self.step, state)

    def _resume(self) -> None:
        state = self.checkpoints.load(self.engine)
        self.step, self.best = int(state["step"]), state["best"]
        self.evaluations_since_best = int(state["evaluations_since_best"])

    def _identity(self) -> dict[str, Any]:
        recipe = self.recipe.model_dump(mode="json", exclude=FREE)
        flat = {f"recipe.{key}": json.dumps(value, sort_keys=True) for key, value in recipe.items()}
        return {**self.workload.identity(), **flat}

    def _export(self, folder: Path) -> None:
        weights = full_weights(self.engine)
        if self.world.rank == 0:
            self.workload.export(weights, folder)


def full_weights(engine: deepspeed.DeepSpeedEngine) -> dict[str, Tensor]:
    """The weights in float32 on the CPU, by parameter name, gathered from all ranks. All ranks call it."""
    weights = {}
    for name, parameter in engine.module.named_parameters():
        master = safe_get_full_fp32_param(parameter)  # None where the parameter is its own master
        weights[name] = (parameter if master is None else master).detach().float().cpu().clone()
    return weights


def deepspeed_config(recipe: TrainingRecipe, ranks: int) -> dict[str, Any]:
    """What DeepSpeed needs to know of the recipe."""
    zero: dict[str, Any] = {"stage": recipe.zero_stage}
    if recipe.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": math.ceil(recipe.batch_size / (ranks * recipe.accumulation)),
        "gradient_accumulation_steps": recipe.accumulation,
        "gradient_clipping": recipe.optimizer.clip,
        "bf16": {"enabled": recipe.precision == "bf16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }
