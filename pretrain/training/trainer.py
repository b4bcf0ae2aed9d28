"""The training loop on DeepSpeed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NoReturn

import torch
from torch import Tensor

from parsers.command import InputError, say, warn
from pretrain.training.best import BestTracker
from pretrain.training.checkpoints import Checkpoint, Checkpoints, LoopState
from pretrain.training.distributed import DistributedContext
from pretrain.training.engine import clip_and_step, explain_full_memory, gather_weights, make_engine
from pretrain.training.interruption import Interruption
from pretrain.training.loader import StepLoader, make_copier
from pretrain.training.log import Log, StepRecord, check_wandb, measure_peak_flops
from pretrain.training.norms import Norms
from pretrain.training.profiling import Profiler
from pretrain.training.provenance import write_run
from pretrain.training.settings import TrainingRecipe
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
"""Keys of a recipe that may change when a run is resumed.

They change neither the data nor, but for rounding, the losses. ``skip_steps`` does, and is here because a run that one
step spoils is resumed from before that step.
"""
_NAMES_SHOWN = 8
"""Samples that a message names; all of them are in a file."""


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
            InputError: ``out`` holds a run that is not to be resumed, is another one, or is damaged.
        """
        self.workload, self.recipe, self.out, self.world = workload, recipe, out, world
        if recipe.wandb_project is not None:
            check_wandb()
        self.steps = recipe.total_steps(workload.steps_per_epoch)
        self.step = 0
        self._best = BestTracker(recipe.best)
        self.checkpoints = Checkpoints(
            out / "checkpoints", keep=recipe.keep_checkpoints, fingerprint=self._fingerprint(), world=world
        )
        found = self._find_checkpoint(resume)
        # Without ZeRO every rank has all states of the optimiser, and any number of ranks can load them.
        universal = found is not None and recipe.zero_stage > 0 and found.ranks != world.size
        with explain_full_memory("the model and its optimizer"):
            self.engine = make_engine(workload.model, workload.make_optimizer(), recipe, load_universal=universal)
        self._compiled = self._compile_encoder() if recipe.compile else None
        self.peak_flops = measure_peak_flops(recipe, world.device)
        self._norms = Norms(self.engine.module)
        self._weights = torch.tensor(workload.weights, dtype=torch.float64, device=world.device)
        self._to_evaluate = False
        if found is not None:
            self._restore(found)
        self._saved = self.step

    # ---------------------------------------------------------------------------------------------------------- loop

    def train(self) -> dict[str, float]:
        """Runs the steps that are left and exports the model to ``model/``; returns the metrics of the last evaluation.

        Raises:
            InputError: a loss or gradient is not finite, a step does not fit the memory, data cannot be read, or the
                recipe asks for the best of a metric that there is not.
            SystemExit: after a signal; there is a checkpoint.
        """
        recipe = self.recipe
        self._begin()
        metrics = None
        done = self.step == self.steps or self._best.stops_early()
        dataset = self.workload.dataset(self.world.rank, self.world.size)
        steps = range(self.step, self.step if done else self.steps)
        loader = StepLoader(dataset, steps, workers=recipe.workers, prepare=make_copier(self.world.device))
        with (
            self._log() as log,
            Interruption(self.world.rank) as interruption,
            Watchdog(recipe.stall_seconds, self.world.rank, loader.print_stacks) as watchdog,
            closing(loader),
            self._profiler() as profiler,
        ):
            if self._to_evaluate:
                metrics = self._evaluate(log)
                self.checkpoints.update(self._state())
                done = done or self._best.stops_early()
            while not done:
                micro_batches = self._receive(loader, interruption, log)
                if self.step in recipe.skip_steps:
                    self._say(f"step {self.step}: passed over (skip_steps)")
                else:
                    profiler.begin_step()
                    log.add(self._train_step_that_fits(micro_batches))
                self.step += 1
                self.checkpoints.publish_written()
                done = self.step == self.steps
                evaluates, saves = self._due(recipe.evaluate_every) or done, self._due(recipe.checkpoint_every) or done
                if self._due(recipe.log_every) or saves:
                    log.write(self.step, loader.waited, self.checkpoints.waited)
                metrics = None
                watchdog.beat()
                if saves:
                    self._save(to_evaluate=evaluates)
                    watchdog.beat()
                if evaluates:
                    metrics = self._evaluate(log)
                    done = done or self._best.stops_early()
                    watchdog.beat()
                    if saves:
                        self.checkpoints.update(self._state())
                    elif done:
                        self._save()
                        watchdog.beat()
            self.checkpoints.finish()
        self._export(gather_weights(self.engine), "model")
        metrics = self._evaluate() if metrics is None else metrics
        self._write_card("model", metrics)
        if recipe.average > 0:
            self._export(self._average_checkpoints(), "averaged")
            self._write_card("averaged", {})
        return metrics

    def _begin(self) -> None:
        """Records the start of the run, and refuses a metric that no evaluation has now rather than after hours."""
        recipe, workload = self.recipe, self.workload
        self.out.mkdir(parents=True, exist_ok=True)
        self.world.on_first(lambda: write_run(self.out, recipe, workload.fingerprint(), self.world, self.step))
        if recipe.best is not None and self.step == 0 and recipe.best.metric not in workload.guaranteed_metrics:
            self._best.check_metric(self._measure())

    def _receive(self, loader: StepLoader[BatchT], interruption: Interruption, log: Log) -> Sequence[BatchT]:
        """Returns the micro-batches of the next step.

        Where a rank cannot read them, or has received a signal, all ranks end here, with a checkpoint of the steps that
        were done.
        """
        micro_batches, problem = None, None
        try:
            micro_batches = interruption.wait_for(loader.__next__)
        except InputError as error:
            problem = str(error)
        end = interruption.agree(self.world, problem)
        if end is None:
            assert micro_batches is not None, "a rank that was interrupted has a signal, on which all ranks agree"
            return micro_batches
        log.write(self.step, loader.waited, self.checkpoints.waited)
        if self.step > self._saved:
            self._save()
        self.checkpoints.finish()
        advice = self.checkpoints.advise()
        if isinstance(end, InputError):
            raise InputError(f"step {self.step}: {end}. {advice}")
        if self.world.rank == 0:
            warn(advice)
        raise end

    def train_step(self, micro_batches: Sequence[BatchT]) -> StepRecord:
        """Takes one optimiser step over a global batch, of which this rank has ``micro_batches``.

        Raises:
            InputError: a loss or gradient is not finite; the parameters are as they were before the step.
        """
        workload, world, engine = self.workload, self.world, self.engine
        sizes = self._measure_batch(micro_batches)
        micro_batches = [batch.to(world.device) for batch in micro_batches]
        counts = world.all_reduce(torch.stack([workload.count_targets(batch) for batch in micro_batches]).sum(0))
        learning_rate = workload.prepare_step(engine.optimizer, self.step, self.steps)
        self._seed_dropout()

        losses, correct = [], torch.zeros_like(counts)
        watched = self.recipe.norms and (self.step + 1) % self.recipe.log_every == 0
        for number, batch in enumerate(micro_batches, start=1):
            with self._norms.watch_activations(watch=watched) as activations:
                scores = workload.score(engine, batch)
            loss = (self._weights * scores.loss / counts.clamp(min=1)).sum()
            # DeepSpeed divides by ranks and micro-batches, but the loss is normalised already.
            engine.backward(loss.float() * world.size * self.recipe.accumulation)
            if number < len(micro_batches):
                engine.step()  # only accumulates the gradient
            losses.append(scores.loss.detach())
            correct += scores.correct

        n = len(counts)
        totals = world.all_reduce(torch.cat([torch.stack(losses).sum(0), correct, sizes]))
        loss, correct, sizes = totals[:n], totals[n : 2 * n], totals[2 * n :]
        if not bool(loss.isfinite().all()):
            self._refuse_step("loss", [not bool(of_batch.isfinite().all()) for of_batch in losses])
        norms = {name: norm.item() for name, norm in activations.items()}
        if watched:
            norms |= self._norms.measure_gradients()
        gradient_norm = clip_and_step(engine, self.recipe)
        if gradient_norm is None:
            self._refuse_step("gradient", [True] * len(micro_batches))

        samples, tokens, flops = sizes.tolist()
        return StepRecord(
            scores=Scores(loss, correct, counts),
            samples=int(samples),
            tokens=int(tokens),
            flops=flops,
            gradient_norm=gradient_norm,
            learning_rate=learning_rate,
            norms=norms,
            recompilations=None if self._compiled is None else self._compiled.recompilations,
        )

    def _measure_batch(self, micro_batches: Sequence[BatchT]) -> Tensor:
        """float64 [3]: samples, tokens and FLOPs of the forward passes; the last is 0 where nobody asks for it."""
        return torch.tensor(
            [
                sum(batch.samples() for batch in micro_batches),
                sum(batch.tokens() for batch in micro_batches),
                sum(self.workload.flops(batch) for batch in micro_batches) if self.peak_flops else 0.0,
            ],
            dtype=torch.float64,
            device=self.world.device,
        )

    def _seed_dropout(self) -> None:
        """Lets dropout follow from (seed, step, rank), so that a resumed run draws what an undisturbed one draws."""
        torch.manual_seed((self.recipe.seed * 1_000_003 + self.step) * 65_537 + self.world.rank)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _say(self, text: str) -> None:
        if self.world.rank == 0:
            say(text)

    # -------------------------------------------------------------------------------------- steps that cannot be taken

    def _refuse_step(self, what: str, suspects: Sequence[bool]) -> NoReturn:
        """Ends the run on all ranks before the step, and names the samples of the micro-batches in question."""
        names = self.workload.sample_names(self.step, self.world.rank, self.world.size)
        own = [name for part, suspect in zip(names, suspects, strict=True) if suspect for name in part]
        all_names = [name for of_rank in self.world.gather(own) for name in of_rank]
        self.checkpoints.finish()
        path = self.out / f"not-finite-step-{self.step}.txt"
        self.world.on_first(lambda: write_atomic(path, "".join(name + "\n" for name in all_names).encode()))
        more = len(all_names) - _NAMES_SHOWN
        shown = "; ".join(all_names[:_NAMES_SHOWN]) + (f"; {more:,} more" if more > 0 else "")
        raise InputError(
            f"step {self.step}: the {what} is not finite, so the step was not taken. The samples of the micro-batches "
            f"in question: {shown} (all of them: {path}). Look at them with `python -m shards.inspect`; if they are "
            "sound, lower the learning rate or use fp32, or pass over them: resume with --set "
            f"'skip_steps=[{self.step}]'"
        )

    def _train_step_that_fits(self, micro_batches: Sequence[BatchT]) -> StepRecord:
        """Trains; where the device's memory is too small, says what to change. The other ranks end with this one."""
        try:
            with explain_full_memory(f"step {self.step}"):
                return self.train_step(micro_batches)
        except InputError:
            if self.world.size == 1:  # of several ranks the others may still be in the step
                self.checkpoints.finish()
            raise

    # ---------------------------------------------------------------------------------------------------- evaluation

    def _evaluate(self, log: Log | None = None) -> dict[str, float]:
        """Returns the metrics of the model, and logs them; exports it to ``best/`` if it is the best one so far."""
        try:
            metrics = self._measure()
        except Exception as error:
            if self.world.fails_together(error) and self.step > self._saved:
                self._save(to_evaluate=True)
            raise
        if log is not None:
            log.write_metrics(self.step, metrics)
        if self._best.is_best(metrics):
            self._export(gather_weights(self.engine), "best")
            self._write_card("best", metrics)
        return metrics

    def _measure(self) -> dict[str, float]:
        self.engine.eval()
        with torch.no_grad(), explain_full_memory(f"evaluation after step {self.step}"):
            metrics = dict(self.workload.evaluate(self.engine.module, self.world))
        self.engine.train()
        return metrics

    # --------------------------------------------------------------------------------------- checkpoints and weights

    def _find_checkpoint(self, resume: bool) -> Checkpoint | None:
        if not self.checkpoints.exist():
            return None
        if not resume:
            raise InputError(f"{self.out} holds a run; add --resume to continue it, or name another --out")
        return self.checkpoints.find()

    def _fingerprint(self) -> dict[str, object]:
        paths = {name for name, value in self.recipe if isinstance(value, Path)}  # the workload knows their contents
        recipe = self.recipe.model_dump(mode="json", exclude=MAY_CHANGE_ON_RESUME | paths)
        return {**self.workload.fingerprint(), **dict(_flatten("recipe", recipe))}

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.load(self.engine, checkpoint)
        self._keep_threads(checkpoint)
        self.step = checkpoint.state["step"]
        self._best.restore(checkpoint.state)
        self._to_evaluate = checkpoint.state.get("to_evaluate", False)

    @property
    def _threads(self) -> int | None:
        """The number of threads, on which rounding depends on a CPU; None on other devices."""
        return torch.get_num_threads() if self.world.device.type == "cpu" else None

    def _keep_threads(self, checkpoint: Checkpoint) -> None:
        """On a CPU, computes with as many threads as before: another number adds up in another order."""
        threads = checkpoint.state.get("threads")
        if threads in (None, self._threads) or self._threads is None or checkpoint.ranks != self.world.size:
            return
        self._say(f"threads of each process: {threads}, as before, not {self._threads}")
        torch.set_num_threads(threads)

    def _save(self, *, to_evaluate: bool = False) -> None:
        """Begins a checkpoint. Before an evaluation it is also finished, so that nothing is lost if that fails."""
        self.checkpoints.begin(self.engine, {**self._state(), "to_evaluate": to_evaluate})
        self._saved = self.step
        if to_evaluate:
            self.checkpoints.finish()

    def _state(self) -> LoopState:
        return {"step": self.step, "threads": self._threads, "to_evaluate": False, **self._best.state()}

    def _average_checkpoints(self) -> dict[str, Tensor]:
        """The mean of the weights over the last checkpoints. The engine ends with those of the newest."""
        checkpoints = self.checkpoints.last(self.recipe.average)
        mean: dict[str, Tensor] = {}
        for number, checkpoint in enumerate(checkpoints, start=1):
            self.checkpoints.load(self.engine, checkpoint)
            for name, weight in gather_weights(self.engine).items():
                mean[name] = mean[name].lerp(weight, 1 / number) if name in mean else weight
        self._say(f"averaged: the mean of {', '.join(checkpoint.folder.name for checkpoint in checkpoints)}")
        return mean

    def _export(self, weights: Mapping[str, Tensor], name: str) -> None:
        self.world.on_first(lambda: self.workload.export(weights, self.out / name))

    def _write_card(self, name: str, metrics: Mapping[str, float]) -> None:
        self.world.on_first(lambda: self.workload.write_card(self.out / name, metrics, self.step))

    # ---------------------------------------------------------------------------------------- what the loop is given

    def _compile_encoder(self) -> CompiledForward | None:
        def tell(text: str) -> None:
            self._say(f"compile: {text}")

        if self.recipe.zero_stage == 3:
            tell("the encoder runs as it is written, because ZeRO 3 fetches the weights of one layer after another")
            return None
        return self.workload.compile(tell)

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

    def _profiler(self) -> Profiler:
        cuda = self.world.device.type == "cuda"
        return Profiler(self.recipe.profile, self.engine.module, self.out, rank=self.world.rank, cuda=cuda)


def _flatten(prefix: str, values: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The values of nested mappings, their keys joined by dots."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(f"{prefix}.{key}", value)
        else:
            yield f"{prefix}.{key}", value
