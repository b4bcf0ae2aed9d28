"""The training loop on DeepSpeed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor

from parsers.command import InputError, say
from pretrain.training.checkpoints import Checkpoint, Checkpoints
from pretrain.training.distributed import DistributedContext
from pretrain.training.interruption import SIGNALS, Interruption
from pretrain.training.loader import StepLoader
from pretrain.training.log import Log, StepRecord, check_wandb, peak_flops
from pretrain.training.norms import Norms
from pretrain.training.profiling import Profiler
from pretrain.training.provenance import write_run
from pretrain.training.settings import REDUCE_BUCKET_ELEMENTS, TrainingRecipe
from pretrain.training.watchdog import Watchdog
from pretrain.training.workload import BatchT, Scores, Workload
from shards.storage.files import write_atomic

if TYPE_CHECKING:
    from pretrain.model.compilation import CompiledForward

MAY_CHANGE_ON_RESUME = {
    *("workers", "log_every", "evaluate_every", "evaluate_steps", "checkpoint_every", "keep_checkpoints"),
    *("stall_seconds", "peak_tflops", "wandb_project", "accumulation", "gradient_checkpointing"),
    *("skip_steps", "profile", "norms", "average"),
}
"""Keys of a recipe that may change when a run is resumed. They change neither data nor losses, rounding apart, and but
for steps that are passed over: a run that one of them spoils is resumed from before it."""


class Trainer(Generic[BatchT]):
    """One run on this rank."""

    def __init__(
        self,
        workload: Workload[BatchT],
        recipe: TrainingRecipe,
        out: Path,
        world: DistributedContext,
        *,
        resume: bool = False,
    ) -> None:
        """Makes the engine; with ``resume``, continues from the latest checkpoint in ``out``, if there is one.

        Raises:
            InputError: there is a run already and it is not to be resumed, or is another one, or is damaged.
        """
        self.workload, self.recipe, self.out, self.world = workload, recipe, out, world
        if recipe.wandb_project is not None:
            check_wandb()
        self.steps = recipe.total_steps(workload.steps_per_epoch)
        self.step = 0
        self.blocked = 0.0
        """seconds that training has waited for checkpoints"""
        self.best: float | None = None
        self.evaluations_since_best = 0
        self.checkpoints = Checkpoints(
            out / "checkpoints", keep=recipe.keep_checkpoints, fingerprint=self._fingerprint(), world=world
        )
        found = self._find(resume)
        # Without ZeRO every rank has all states of the optimiser, and any number of ranks can load them.
        universal = found is not None and recipe.zero_stage > 0 and found.ranks != world.size
        self.engine, *_ = deepspeed.initialize(
            model=workload.model,
            optimizer=workload.make_optimizer(),
            config=deepspeed_config(recipe, load_universal=universal),
        )
        self._compiled = self._compile_encoder() if recipe.compile else None
        self.peak_flops = peak_flops(recipe, world.device)
        self._norms = Norms(self.engine.module)
        self.weights = torch.tensor(workload.weights, dtype=torch.float64, device=world.device)
        if found is not None:
            self._load(found)

    # ---------------------------------------------------------------------------------------------------------- loop

    def train(self) -> dict[str, float]:
        """Runs the steps that are left and exports the model to ``model/``; returns the metrics of the last evaluation.

        Raises:
            InputError: a loss or gradient is not finite, a step does not fit the memory, or the recipe asks for the
                best of a metric that there is not.
            SystemExit: after a signal; there is a checkpoint.
        """
        recipe, rank = self.recipe, self.world.rank
        self.out.mkdir(parents=True, exist_ok=True)
        self.world.on_first(lambda: write_run(self.out, recipe, self.workload.fingerprint(), self.world, self.step))
        if recipe.best is not None and self.step == 0 and recipe.best.metric not in self.workload.guaranteed_metrics:
            self._check_metric(recipe.best.metric, self._metrics())  # rather than after hours
        metrics, done = None, self.step == self.steps or self._stops_early()
        loader = StepLoader(
            self.workload.dataset(rank, self.world.size),
            range(self.step, self.step if done else self.steps),
            workers=recipe.workers,
        )
        with (
            self._log() as log,
            Interruption(rank) as interruption,
            Watchdog(recipe.stall_seconds, rank, loader.print_stacks) as watchdog,
            closing(loader),
            Profiler(
                recipe.profile, self.engine.module, self.out, rank=rank, cuda=self.world.device.type == "cuda"
            ) as profiler,
        ):
            for micro_batches in loader:
                stop = None
                if self.step in recipe.skip_steps:
                    if rank == 0:
                        say(f"step {self.step}: passed over (skip_steps)")
                else:
                    profiler.begin_step()
                    try:
                        record, stop, written = self.train_step(micro_batches, interruption.received)
                    except torch.OutOfMemoryError as error:
                        raise self._out_of_memory(error) from error
                    log.add(record)
                    if written:
                        self._finish_checkpoint()
                self.step += 1
                done = self.step == self.steps
                if self._due(recipe.log_every) or self._due(recipe.checkpoint_every) or done or stop:
                    log.write(self.step, loader.waited, self.blocked)
                metrics = None
                if self._due(recipe.evaluate_every) or done:
                    watchdog.beat()
                    metrics = self.evaluate()
                    log.write_metrics(self.step, metrics)
                    done = done or self._stops_early()
                if self._due(recipe.checkpoint_every) or done or stop:
                    watchdog.beat()
                    self._begin_checkpoint()
                    if done or stop:
                        self._finish_checkpoint()
                watchdog.beat()
                if stop is not None:
                    raise SystemExit(128 + stop)
                if done:
                    break
        self._export(full_weights(self.engine), "model")
        metrics = self.evaluate() if metrics is None else metrics
        if recipe.average > 0:
            self._export(self._averaged_weights(), "averaged")
        return metrics

    def train_step(
        self, micro_batches: Sequence[BatchT], received: signal.Signals | None = None
    ) -> tuple[StepRecord, signal.Signals | None, bool]:
        """One optimiser step over a global batch, in which the ranks also tell each other what they must agree on.

        Returns:
            What was done; a signal that one of the ranks has received; whether all have written a checkpoint.

        Raises:
            InputError: a loss or gradient is not finite; the parameters are as they were before the step.
        """
        workload, world = self.workload, self.world
        sizes = [
            sum(batch.samples() for batch in micro_batches),
            sum(batch.tokens() for batch in micro_batches),
            sum(workload.flops(batch) for batch in micro_batches) if self.peak_flops else 0.0,
            *(float(received == number) for number in SIGNALS),
            float(self.checkpoints.written),
        ]
        micro_batches = [batch.to(world.device) for batch in micro_batches]
        counts = world.all_reduce(torch.stack([workload.count_targets(batch) for batch in micro_batches]).sum(0))
        rate = workload.prepare_step(self.engine.optimizer, self.step, self.steps)
        # Dropout follows from (seed, step, rank), so that a resumed run draws what the undisturbed one would have.
        torch.manual_seed((self.recipe.seed * 1_000_003 + self.step) * 65_537 + world.rank)
        losses, correct = [], torch.zeros_like(counts)
        watched = self.recipe.norms and (self.step + 1) % self.recipe.log_every == 0
        for number, batch in enumerate(micro_batches):
            with self._norms.activations(watch=watched) as activations:
                scores = workload.score(self.engine, batch)
            loss = (self.weights * scores.loss / counts.clamp(min=1)).sum()
            # DeepSpeed divides by ranks and micro-batches; the loss is normalised already.
            self.engine.backward(loss.float() * world.size * self.recipe.accumulation)
            if number < len(micro_batches) - 1:
                self.engine.step()  # accumulates
            losses.append(scores.loss.detach())
            correct += scores.correct
        n = len(counts)
        reduced = world.all_reduce(torch.cat([torch.stack(losses).sum(0), correct, counts.new_tensor(sizes)]))
        if not bool(reduced[:n].isfinite().all()):
            self._refuse("loss", [not bool(loss.isfinite().all()) for loss in losses])
        norms = {name: norm.item() for name, norm in activations.items()}
        if watched:
            norms |= self._norms.gradients()
        norm = self._optimizer_step()
        samples, tokens, flops, *signals, written = reduced[2 * n :].tolist()
        scores = Scores(reduced[:n], reduced[n : 2 * n], counts)
        stop = next((number for number, count in zip(SIGNALS, signals, strict=True) if count), None)
        again = None if self._compiled is None else self._compiled.recompilations
        record = StepRecord(scores, int(samples), int(tokens), flops, norm, rate, norms, again)
        return record, stop, written == world.size

    def _optimizer_step(self) -> float:
        """Clips the gradient and steps, or refuses to; returns the norm of the gradient."""
        if clips_itself(self.recipe):
            self.engine.step()
            if not self.engine.was_step_applied():
                self._refuse("gradient", [True] * self.recipe.accumulation)
            return float(self.engine.get_global_grad_norm())
        norm = torch.nn.utils.clip_grad_norm_(self.engine.module.parameters(), self.recipe.optimizer.clip)
        if not bool(norm.isfinite()):
            self._refuse("gradient", [True] * self.recipe.accumulation)
        self.engine.step()
        return float(norm)

    def _compile_encoder(self) -> CompiledForward | None:
        def tell(text: str) -> None:
            if self.world.rank == 0:
                say(f"compile: {text}")

        if self.recipe.zero_stage == 3:
            tell("the encoder runs as it is written, because ZeRO 3 fetches the weights of one layer after another")
            return None
        return self.workload.compile(tell)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _refuse(self, what: str, suspects: Sequence[bool]) -> NoReturn:
        """Ends the run on all ranks before the step, and names the samples of the micro-batches in question."""
        names = self.workload.sample_names(self.step, self.world.rank, self.world.size)
        own = [name for part, suspect in zip(names, suspects, strict=True) if suspect for name in part]
        all_names = [name for of_rank in self.world.gather(own) for name in of_rank]
        self._finish_checkpoint()
        path = self.out / f"not-finite-step-{self.step}.txt"
        self.world.on_first(lambda: write_atomic(path, "".join(name + "\n" for name in all_names).encode()))
        shown = "; ".join(all_names[:8]) + (f"; {len(all_names) - 8:,} more" if len(all_names) > 8 else "")
        raise InputError(
            f"step {self.step}: the {what} is not finite, so the step was not taken. The samples of the micro-batches "
            f"in question: {shown} (all of them: {path}). Look at them with `python -m shards.inspect`; if they are "
            "sound, lower the learning rate or use fp32, or pass over them: resume with --set "
            f"'skip_steps=[{self.step}]'"
        )

    def _out_of_memory(self, error: torch.OutOfMemoryError) -> InputError:
        """What to change so that a step fits the device. This rank ends, and the others with the process group."""
        if self.world.size == 1:  # of several ranks the others may still be in the step
            self._finish_checkpoint()
        tried = ". ".join(" ".join(str(error).split()).split(". ")[:2])
        return InputError(
            f"step {self.step}: {tried}. Either raise accumulation or set gradient_checkpointing: true, and go on with "
            "--resume; or start anew with a smaller batch_size (or tokens), a higher zero_stage or offload_optimizer: "
            "true"
        )

    def _log(self) -> Log:
        return Log(
            self.out,
            (self.workload.objectives, self.workload.weights),
            step=self.step,
            steps=self.steps,
            peak_flops=self.peak_flops,
            wandb_project=self.recipe.wandb_project,
            world=self.world,
        )

    # ---------------------------------------------------------------------------------------------------- evaluation

    def evaluate(self) -> dict[str, float]:
        """The metrics of the model; the best one so far is exported to ``best/``."""
        metrics, best = self._metrics(), self.recipe.best
        if best is not None:
            value = metrics[best.metric]
            if self.best is None or (value < self.best if best.mode == "min" else value > self.best):
                self.best, self.evaluations_since_best = value, 0
                self._export(full_weights(self.engine), "best")
            else:
                self.evaluations_since_best += 1
        return metrics

    def _metrics(self) -> dict[str, float]:
        self.engine.eval()
        with torch.no_grad():
            metrics = dict(self.workload.evaluate(self.engine.module, self.world))
        self.engine.train()
        return metrics

    def _check_metric(self, name: str, metrics: Mapping[str, float]) -> None:
        if name not in metrics:
            raise InputError(f"best.metric: there is no {name!r}; there are {', '.join(metrics) or 'none'}")

    def _stops_early(self) -> bool:
        best = self.recipe.best
        return best is not None and 0 < best.patience <= self.evaluations_since_best

    # --------------------------------------------------------------------------------------- checkpoints and weights

    def _find(self, resume: bool) -> Checkpoint | None:
        if not self.checkpoints.exist():
            return None
        if not resume:
            raise InputError(f"{self.out} holds a run; add --resume to continue it, or name another --out")
        return self.checkpoints.find()

    def _load(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.load(self.engine, checkpoint)
        self._keep_threads(checkpoint)
        self.step, self.best = checkpoint.state["step"], checkpoint.state["best"]
        self.evaluations_since_best = checkpoint.state["evaluations_since_best"]

    @property
    def _threads(self) -> int | None:
        """What rounding depends on, on a CPU."""
        return torch.get_num_threads() if self.world.device.type == "cpu" else None

    def _keep_threads(self, checkpoint: Checkpoint) -> None:
        """On a CPU, computes with as many threads as before: another number adds up in another order."""
        threads = checkpoint.state.get("threads")  # not there in older checkpoints
        if threads in (None, self._threads) or self._threads is None or checkpoint.ranks != self.world.size:
            return
        if self.world.rank == 0:
            say(f"threads of each process: {threads}, as before, not {self._threads}")
        torch.set_num_threads(threads)

    def _begin_checkpoint(self) -> None:
        """Copies what a checkpoint holds; it is written while training goes on."""
        self._finish_checkpoint()
        started = time.perf_counter()
        state = {
            "step": self.step,
            "best": self.best,
            "evaluations_since_best": self.evaluations_since_best,
            "threads": self._threads,
        }
        self.checkpoints.begin(self.engine, self.step, state)
        self.blocked += time.perf_counter() - started

    def _finish_checkpoint(self) -> None:
        """Makes a checkpoint that was begun appear; waits until it is written."""
        started = time.perf_counter()
        self.checkpoints.finish()
        self.blocked += time.perf_counter() - started

    def _fingerprint(self) -> dict[str, Any]:
        paths = {name for name, value in self.recipe if isinstance(value, Path)}  # the workload knows their contents
        recipe = self.recipe.model_dump(mode="json", exclude=MAY_CHANGE_ON_RESUME | paths)
        return {**self.workload.fingerprint(), **dict(_flat("recipe", recipe))}

    def _averaged_weights(self) -> dict[str, Tensor]:
        """The mean over the last checkpoints, of which the engine ends with the newest."""
        checkpoints = self.checkpoints.last(self.recipe.average)
        mean: dict[str, Tensor] = {}
        for number, checkpoint in enumerate(checkpoints, start=1):
            self.checkpoints.load(self.engine, checkpoint)
            for name, weight in full_weights(self.engine).items():
                mean[name] = mean[name].lerp(weight, 1 / number) if name in mean else weight
        if self.world.rank == 0:
            say(f"averaged: the mean of {', '.join(checkpoint.folder.name for checkpoint in checkpoints)}")
        return mean

    def _export(self, weights: Mapping[str, Tensor], name: str) -> None:
        self.world.on_first(lambda: self.workload.export(weights, self.out / name))


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, their keys joined by dots."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}.{key}", value)
        else:
            yield f"{prefix}.{key}", value


def full_weights(engine: deepspeed.DeepSpeedEngine) -> dict[str, Tensor]:
    """The weights in float32 on the CPU, by parameter name, gathered from all ranks. All ranks call it."""
    weights = {}
    for name, parameter in engine.module.named_parameters():
        master = safe_get_full_fp32_param(parameter)  # None where the parameter is its own master
        weights[name] = (parameter if master is None else master).detach().float().cpu().clone()
    return weights


def clips_itself(recipe: TrainingRecipe) -> bool:
    """Whether DeepSpeed wraps the optimiser: it then clips the gradient and skips a step that is not finite."""
    return recipe.zero_stage > 0 or recipe.precision == "bf16"


def deepspeed_config(recipe: TrainingRecipe, *, load_universal: bool) -> dict[str, Any]:
    """What DeepSpeed needs to know of the recipe."""
    zero: dict[str, Any] = {"stage": recipe.zero_stage, "reduce_bucket_size": REDUCE_BUCKET_ELEMENTS}
    if recipe.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,  # it must have one, though only the workload knows, and it may vary
        "gradient_accumulation_steps": recipe.accumulation,
        "gradient_clipping": recipe.optimizer.clip if clips_itself(recipe) else 0.0,
        "bf16": {"enabled": recipe.precision == "bf16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "checkpoint": {"load_universal": load_universal},
        "steps_per_print": 10**9,
    }
