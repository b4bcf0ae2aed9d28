"""The pretraining loop on DeepSpeed."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from rich.table import Table
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from pretrain.batches import Batch, Collator, load_steps
from pretrain.evaluation import Result, evaluate, percent
from pretrain.export import export
from pretrain.heads import ErnieViLForPreTraining
from pretrain.init_text import TextInitialisation, init_text
from pretrain.objectives import OBJECTIVES, Scores, count_targets, score
from pretrain.order import BatchPlan
from pretrain.recipe import Recipe, model_config
from shards.console import console, progress
from shards.errors import InputError
from shards.reader import ShardSet

LATEST = "latest"


class Trainer:
    """One run: model, data and optimiser on this rank."""

    def __init__(
        self, recipe: Recipe, shards: ShardSet, held_out: ShardSet | None, out: Path, *, text_from: str | None = None
    ) -> None:
        self.recipe, self.shards, self.held_out, self.out = recipe, shards, held_out, out
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self.config = model_config(recipe, shards)
        torch.manual_seed(recipe.seed)  # the same initial weights on every rank
        model = ErnieViLForPreTraining(self.config)
        if text_from is not None:
            taken = init_text(model.ernie_vil, text_from)
            if self.rank == 0:
                console.print(text_table(taken, text_from))
        self.engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=torch.optim.AdamW(
                parameter_groups(model, recipe.optimizer.weight_decay),
                lr=recipe.optimizer.learning_rate,
                betas=recipe.optimizer.betas,
                fused=True,
            ),
            config=deepspeed_config(recipe, self.ranks),
        )
        self.device = torch.device(self.engine.device)
        self.plan = BatchPlan.of(recipe, shards)
        weights = torch.tensor([getattr(recipe.active_weights, name) for name in OBJECTIVES], dtype=torch.float64)
        self.weights = weights.to(self.device)
        self.step = 0

    # ------------------------------------------------------------------------------------------------------ training

    def train(self) -> None:
        """Runs the steps that are left; evaluates, exports and says what came out."""
        recipe = self.recipe
        log = _Log(self.out, self.step, enabled=self.rank == 0)
        collator = Collator(
            self.shards,
            seed=recipe.seed,
            max_text=recipe.max_text,
            masking=recipe.active_masking,
            region_target=recipe.region_target,
            images=recipe.images,
            device_type=self.device.type,
        )
        batches = load_steps(
            self.plan,
            collator,
            range(self.step, recipe.steps),
            rank=self.rank,
            ranks=self.ranks,
            accumulation=recipe.accumulation,
            workers=recipe.workers,
        )
        with progress("pretrain", recipe.steps - self.step, "steps") as advance:
            for micro_batches in batches:
                rate = recipe.optimizer.learning_rate_at(self.step, recipe.steps)
                scores, tokens = self.train_step(micro_batches, rate)
                self.step += 1
                log.add(scores, tokens, rate)
                if self.rank == 0:
                    advance(1)
                checkpoint = self.step % recipe.checkpoint_every == 0 or self.step == recipe.steps
                if self.step % recipe.log_every == 0 or checkpoint:
                    log.write(self.step)
                if recipe.evaluate_every and self.step % recipe.evaluate_every == 0 and self.step < recipe.steps:
                    log.write_results(self.step, self.evaluate())
                if checkpoint:
                    self.save()
        results = self.evaluate()
        log.write_results(self.step, results)
        log.close()
        if self.rank == 0:
            export(self.engine.module, self.config, self.shards.vocabulary_bytes, self.out / "model")
            if results:
                console.print(results_table(results))
            console.print(f"model: {self.out / 'model'}")

    def train_step(self, micro_batches: list[Batch], rate: float) -> tuple[Scores, int]:
        """One optimiser step over a global batch; returns its scores over all ranks and its text positions."""
        recipe = self.recipe
        tokens = sum(batch.tokens() for batch in micro_batches)
        micro_batches = [batch.to(self.device) for batch in micro_batches]
        counts = self._all_reduce(torch.stack([count_targets(batch) for batch in micro_batches]).sum(0))
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        # Dropout follows from (seed, step, rank), so that a resumed run draws what the undisturbed one would have.
        torch.manual_seed((recipe.seed * 1_000_003 + self.step) * 65_537 + self.rank)
        loss_sum, correct = torch.zeros_like(counts), torch.zeros_like(counts)
        for batch in micro_batches:
            scores = score(self.engine(**batch.inputs()), batch)
            loss = (self.weights * scores.loss / counts.clamp(min=1)).sum()
            # DeepSpeed divides by ranks and micro-batches; the loss is normalised already.
            self.engine.backward(loss.float() * self.ranks * recipe.accumulation)
            self.engine.step()
            loss_sum += scores.loss.detach()
            correct += scores.correct
        reduced = self._all_reduce(torch.cat([loss_sum, correct, loss_sum.new_tensor([tokens])]))
        n = len(OBJECTIVES)
        loss_sum, correct, total = reduced[:n], reduced[n : 2 * n], reduced[2 * n]
        if not bool(torch.isfinite(loss_sum).all()):
            raise InputError(f"step {self.step}: the loss is not finite; lower the learning rate or use fp32")
        return Scores(loss_sum, correct, counts), int(total)

    def _all_reduce(self, tensor: Tensor) -> Tensor:
        if self.ranks > 1:
            dist.all_reduce(tensor)
        return tensor

    def evaluate(self) -> dict[str, Result]:
        """Scores the model on the held-out shards, if there are any."""
        if self.held_out is None:
            return {}
        self.engine.eval()
        results = evaluate(
            self.engine.module,
            self.held_out,
            self.recipe,
            images=self.recipe.images,
            device=self.device,
            rank=self.rank,
            ranks=self.ranks,
            all_reduce=self._all_reduce,
        )
        self.engine.train()
        return results

    # --------------------------------------------------------------------------------------------------- checkpoints

    def save(self) -> None:
        """Writes a checkpoint to resume from; older ones are removed once it is complete."""
        folder = self.out / "checkpoints"
        state = {"step": self.step, **self._identity()}
        self.engine.save_checkpoint(str(folder), tag=f"step-{self.step}", client_state=state)
        if self.rank == 0:
            tags = sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
            for old in tags[: -self.recipe.keep_checkpoints]:
                shutil.rmtree(old)

    def resume(self) -> None:
        """Continues from the latest checkpoint of the output folder, or from the start if there is none yet.

        Raises:
            InputError: the checkpoint was written with other data, another recipe or another number of ranks.
        """
        folder = self.out / "checkpoints"
        if not (folder / LATEST).is_file():
            return
        _, state = self.engine.load_checkpoint(str(folder))
        if state is None:
            raise InputError(f"{folder}: the checkpoint that {folder / LATEST} names cannot be loaded")
        wanted = self._identity()
        differing = [key for key in wanted if wanted[key] != state.get(key)]
        if differing:
            changes = "; ".join(f"{key}: {state.get(key)} -> {wanted[key]}" for key in differing)
            raise InputError(
                f"{folder} belongs to another run ({changes}); resume with the same, or name another --out"
            )
        self.step = int(state["step"])

    def _identity(self) -> dict[str, Any]:
        free = {"workers", "log_every", "evaluate_every", "evaluate_steps", "checkpoint_every", "keep_checkpoints"}
        recipe = self.recipe.model_dump(mode="json", exclude=free | {"model"})
        flat = {f"recipe.{key}": json.dumps(value, sort_keys=True) for key, value in recipe.items()}
        return {
            "manifest": self.shards.manifest.checksum,
            "ranks": self.ranks,
            "model": self.config.model_dump_json(),
            **flat,
        }


# ----------------------------------------------------------------------------------------------------------- set-up


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and layer norms are not decayed."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    rest = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def deepspeed_config(recipe: Recipe, ranks: int) -> dict[str, Any]:
    """What DeepSpeed needs to know of the recipe."""
    return {
        "train_micro_batch_size_per_gpu": math.ceil(recipe.batch_size / (ranks * recipe.accumulation)),
        "gradient_accumulation_steps": recipe.accumulation,
        "gradient_clipping": recipe.optimizer.clip,
        "bf16": {"enabled": recipe.precision == "bf16"},
        "zero_optimization": {"stage": recipe.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }


# ---------------------------------------------------------------------------------------------------------- logging


class _Log:
    """Writes ``metrics.jsonl`` and TensorBoard: each objective's loss and accuracy since the last line."""

    def __init__(self, out: Path, step: int, *, enabled: bool) -> None:
        self._path = out / "metrics.jsonl"
        self._board: SummaryWriter | None = None
        self._clear()
        if not enabled:
            return
        if self._path.exists():
            # Lines after the checkpoint belong to steps that are run again.
            lines = [line for line in self._path.read_text().splitlines() if json.loads(line)["step"] <= step]
            self._path.write_text("".join(line + "\n" for line in lines))
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step or None)

    def _clear(self) -> None:
        self._sums: list[Scores] = []
        self._tokens, self._rate, self._since = 0, 0.0, time.monotonic()

    def add(self, scores: Scores, tokens: int, rate: float) -> None:
        self._sums.append(scores)
        self._tokens, self._rate = self._tokens + tokens, rate

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
                for name, total, n in zip(OBJECTIVES, totals, count, strict=True)
                if n and not math.isnan(total)
            }
            values |= {
                "samples_per_second": count[-1] / seconds,
                "tokens_per_second": self._tokens / seconds,
                "learning_rate": self._rate,
            }
            self._write_line(step, values)
        self._clear()

    def write_results(self, step: int, results: dict[str, Result]) -> None:
        """Adds a line with the scores of an evaluation."""
        if self._board is not None and results:
            self._write_line(
                step,
                {
                    f"held-out/{what}/{name}": value
                    for name, r in results.items()
                    for what, value in r.to_dict().items()
                },
            )

    def _write_line(self, step: int, values: dict[str, float]) -> None:
        assert self._board is not None
        with self._path.open("a") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes TensorBoard."""
        if self._board is not None:
            self._board.close()


def results_table(results: dict[str, Result]) -> Table:
    """Held-out loss and accuracy beside those of guessing by frequency."""
    table = Table("objective", "loss", "guessing", "accuracy", "guessing", "targets", title="Held-out images")
    table.caption = "guessing: by the frequencies of these very targets, so as well as can be without looking"
    for name, result in results.items():
        table.add_row(
            name,
            f"{result.loss:.3f}",
            f"{result.guess_loss:.3f}",
            percent(result.accuracy),
            percent(result.guess_accuracy),
            f"{result.targets:,}",
        )
    return table


def text_table(taken: TextInitialisation, source: str) -> Table:
    """What was and was not initialised from another model."""
    table = Table(title=f"Text stream from {source}", title_justify="left", show_header=False)
    table.add_row("copied", f"{len(taken.copied)} parameters")
    table.add_row("copied in part", "\n".join(taken.partly) or "none")
    table.add_row(
        "initialised at random", f"{len(taken.untouched)} parameters (image stream, co-layers, poolers, heads)"
    )
    table.add_row("not used", ", ".join(taken.unused) or "none")
    return table


def run(
    recipe: Recipe,
    shards: ShardSet,
    held_out: ShardSet | None,
    out: Path,
    *,
    resume: bool,
    text_from: str | None = None,
) -> None:
    """Trains in an initialised process group."""
    if not resume and (out / "checkpoints" / LATEST).exists():
        raise InputError(f"{out} holds a run; add --resume to continue it, or name another --out")
    out.mkdir(parents=True, exist_ok=True)
    # A checkpoint has its own weights.
    trainer = Trainer(recipe, shards, held_out, out, text_from=None if resume else text_from)
    if resume:
        trainer.resume()
    trainer.train()


def with_process_group(work: Callable[[], None]) -> None:
    """Runs ``work`` in the process group of the launcher, or in one of a single process if there is no launcher."""
    if "RANK" not in os.environ:
        alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        os.environ.update(alone)
    # The shared-memory reduction serves inference alone, yet DeepSpeed would compile it on every CPU: that needs a
    # compiler, and a process killed meanwhile leaves a lock behind on which all later runs wait for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=True, verbose=False)
    try:
        work()
    finally:
        dist.destroy_process_group()
