"""What a pretraining run will take, before it is started.

``python -m pretrain.plan --config configs/pretrain/tiny.yaml --shards data/shards/train --ranks 8 --ranks 64``
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from parsers.command import InputError, console, pluralize, progress, run, say
from pretrain.data.division import Division, Positions, divide, positions
from pretrain.data.order import BatchPlan
from pretrain.model.config import ModelConfig
from pretrain.options import Settings
from pretrain.recipe import Recipe, model_config
from pretrain.training.settings import REDUCE_BUCKET_ELEMENTS
from shards.joined import open_sets
from shards.schema import Array

if TYPE_CHECKING:
    import torch

    from pretrain.model.costs import PairCosts

GB = 1e9
ZERO_STAGES = range(4)

app = typer.Typer(add_completion=False)


# -------------------------------------------------------------------------------------------------------------- length


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run is."""

    steps: int
    steps_per_epoch: int
    samples: int
    """pairs that are seen, each epoch's short last batch counted as it is"""
    epochs: float
    """samples seen over samples of an epoch"""


def run_length(steps: int, plan: BatchPlan) -> Length:
    """The epochs of a number of steps."""
    seen = plan.pairs_before(steps)
    return Length(steps, plan.steps_per_epoch, seen, seen / plan.pairs_per_epoch)


def count_parameters(config: ModelConfig) -> int:
    """Parameters of the encoder and the pretraining heads."""
    import torch

    from pretrain.model.heads import ErnieViLForPreTraining

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in ErnieViLForPreTraining(config).parameters())


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one rank at a ZeRO stage (arXiv 1910.02054, section 5), as DeepSpeed holds them."""

    stage: int
    weights: int
    gradients: int
    optimizer: int
    """AdamW's two moments in fp32, and the fp32 weights beside those of the model"""
    activations: int
    exchange: int
    """the buffer through which ZeRO exchanges gradients"""
    update: int
    """copies of the gradients that the optimiser's step takes: in fp32, and with ZeRO in the model's type as well"""

    @property
    def total(self) -> int:
        """The most at a time: activations are gone when the optimiser steps."""
        return self.weights + self.optimizer + self.exchange + max(self.activations, self.gradients + self.update)


def memory(
    parameters: int, *, stage: int, ranks: int, dtype: torch.dtype, activations: int, offload: bool = False
) -> Memory:
    """Stage 1 divides the states of the optimiser among the ranks, 2 the gradients as well, 3 the weights too.

    DeepSpeed keeps a second, fp32 copy of the weights under bf16, and in fp32 from stage 1 on. With ``offload`` the
    optimiser and its step are on the host, from stage 1 on.
    """

    def share(divided: bool) -> int:
        return -(-parameters // ranks) if divided else parameters

    half = dtype.itemsize < 4
    states = 12 if half or stage >= 1 else 8
    copies = 6 if half and stage >= 1 else 4
    on_device = not (offload and stage >= 1)
    return Memory(
        stage=stage,
        weights=dtype.itemsize * share(stage >= 3),
        gradients=dtype.itemsize * share(stage >= 2),
        optimizer=on_device * states * share(stage >= 1),
        activations=activations,
        exchange=(stage >= 1) * dtype.itemsize * REDUCE_BUCKET_ELEMENTS,
        update=on_device * copies * share(stage >= 1),
    )


# ---------------------------------------------------------------------------------------------------------------- time


def throughput_of(folder: Path) -> float:
    """Samples a second of a run: the median over the lines of its ``metrics.jsonl``.

    Raises:
        InputError: the file cannot be read or has no such line.
    """
    path = folder / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = [float(line["samples_per_second"]) for line in lines if "samples_per_second" in line]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as the metrics of a run: {error}") from error
    if not found:
        raise InputError(f"{path}: no line has samples_per_second; name a run that has logged a step")
    return statistics.median(found)


def hours_at_throughput(samples: int, *, throughput: float, measured_ranks: int, ranks: int) -> float:
    """Hours at ``throughput`` samples a second of ``measured_ranks``; each rank goes on at the same speed."""
    return samples / (throughput / measured_ranks * ranks) / 3600


def hours_at_peak(division: Division, pair: PairCosts, *, steps: int, peak_tflops: float, share: float) -> float:
    """Hours where each rank computes at a share of its peak and a step takes as long as its slowest rank.

    The backward pass counts twice the forward pass.
    """
    slowest = pair.flops_at(*division.sizes).sum(2).max(1).mean()
    return float(3 * slowest * steps / (peak_tflops * 1e12 * share) / 3600)


# ------------------------------------------------------------------------------------------------------------- command


@app.command(
    epilog="Example: python -m pretrain.plan --config configs/pretrain/tiny.yaml --shards data/shards/train "
    "--ranks 8 --ranks 64 --peak-tflops 312 --share 0.3 --device-memory 40"
)
def main(
    config: Annotated[Path, typer.Option(help="Recipe (YAML).")],
    shards: Annotated[
        list[str],
        typer.Option(help="Shards to train on: a folder, or a URL such as s3://bucket/train. Several: see `passes`."),
    ],
    ranks: Annotated[list[int] | None, typer.Option(min=1, help="Devices; may be repeated. Default: 8.")] = None,
    set_: Settings = None,
    batches: Annotated[int, typer.Option(min=1, help="Global batches to simulate, from the first one on.")] = 200,
    throughput: Annotated[float | None, typer.Option(help="Measured samples per second.")] = None,
    from_run: Annotated[Path | None, typer.Option(help="Folder of a run to take the throughput from.")] = None,
    measured_ranks: Annotated[int, typer.Option(min=1, help="Devices the throughput was measured with.")] = 1,
    peak_tflops: Annotated[float | None, typer.Option(help="Peak of a device, in TFLOP/s.")] = None,
    share: Annotated[float | None, typer.Option(help="Share of the peak that is reached, from 0 to 1.")] = None,
    device_memory: Annotated[float | None, typer.Option(help="Memory of a device in GB (1e9 bytes).")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all of it to this file as well.")] = None,
) -> None:
    """Print the epochs, balance, memory and hours of a run on any number of devices."""
    if sum(given is not None for given in (throughput, from_run, peak_tflops)) > 1:
        raise InputError("give one of --throughput, --from-run and --peak-tflops: they answer the same question")
    if (peak_tflops is None) != (share is None):
        raise InputError("--peak-tflops and --share belong together, e.g. --peak-tflops 312 --share 0.3")
    for option, value in (("--throughput", throughput), ("--peak-tflops", peak_tflops), ("--share", share)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{option} {value}: must be more than 0")
    if share is not None and share > 1:
        raise InputError(f"--share {share}: no more than 1, which is the peak itself")
    recipe, data = Recipe.load(config, set_ or []), open_sets(shards)
    if len(data) == 0:
        raise InputError(f"{data.location}: has no samples")
    size = model_config(recipe, data)
    if from_run is not None:
        throughput = throughput_of(from_run)

    import torch

    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    plan, simulated = BatchPlan.of(recipe, data), []
    steps = recipe.total_steps(plan.steps_per_epoch)
    length = run_length(steps, plan)
    with progress("simulate", min(batches, steps), "batch") as advance:
        for step in range(min(batches, steps)):
            simulated.append(positions(plan, step, max_text=recipe.max_text, images=recipe.images))
            advance(1)
    parameters, pair = count_parameters(size), PairCosts.of(size, dtype, checkpointing=recipe.gradient_checkpointing)
    report: dict[str, Any] = {
        "length": asdict(length),
        "parameters": parameters,
        "batches": _batches_report(simulated, length),
        "ranks": [],
    }
    for n in ranks or [8]:
        division = divide(simulated, ranks=n, accumulation=recipe.accumulation)
        activations = round(float(pair.saved_bytes_at(*division.sizes).max()))
        stages = [
            memory(
                parameters, stage=stage, ranks=n, dtype=dtype, activations=activations, offload=recipe.offload_optimizer
            )
            for stage in ZERO_STAGES
        ]
        hours = None
        if throughput is not None:
            hours = hours_at_throughput(length.samples, throughput=throughput, measured_ranks=measured_ranks, ranks=n)
        elif peak_tflops is not None and share is not None:
            hours = hours_at_peak(division, pair, steps=steps, peak_tflops=peak_tflops, share=share)
        report["ranks"].append(
            {
                "ranks": n,
                "samples": [int(division.samples.sum(2).min()), int(division.samples.sum(2).max())],
                "tokens": [int(division.tokens.min()), int(division.tokens.max())],
                "balance": division.balance,
                "text_padding": division.text_padding,
                "image_padding": division.image_padding,
                "hours": hours,
                "memory": [_memory_report(stage, device_memory) for stage in stages],
            }
        )
    _print(report, recipe)
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"--json {json_file}: cannot be written: {error.strerror}") from error


def _batches_report(simulated: list[Positions], length: Length) -> dict[str, Any]:
    text = np.concatenate([batch.text for batch in simulated])
    image = np.concatenate([batch.image for batch in simulated])
    return {
        "simulated": len(simulated),
        "text_positions": _spread(text),
        "image_rows": _spread(image),
        "tokens": _spread(np.array([batch.text.sum() + batch.image.sum() for batch in simulated])),
        "run_tokens": round(float((text.mean() + image.mean()) * length.samples)),
    }


def _spread(values: Array) -> dict[str, float]:
    return {"mean": float(values.mean()), "median": float(np.median(values)), "longest": int(values.max())}


def _memory_report(found: Memory, device_memory: float | None) -> dict[str, Any]:
    fits = None if device_memory is None else found.total <= device_memory * GB
    return {**asdict(found), "total": found.total, "fits": fits}


def _print(report: dict[str, Any], recipe: Recipe) -> None:
    length, batches = report["length"], report["batches"]
    say(f"{pluralize(length['steps'], 'step')}, {length['steps_per_epoch']:,} an epoch: {length['epochs']:.2f} epochs")
    say(f"{pluralize(length['samples'], 'sample')}, about {batches['run_tokens']:,} text positions and image rows")
    for name, key in (
        ("text positions", "text_positions"),
        ("image rows", "image_rows"),
        ("tokens of a batch", "tokens"),
    ):
        spread = batches[key]
        say(f"{name}: {spread['mean']:,.1f} on average, median {spread['median']:,.0f}, most {spread['longest']:,}")
    say(f"{report['parameters']:,} parameters, {recipe.precision}")

    division = Table(
        "ranks", "samples a rank", "tokens a rank", "max / mean", "text padding", "image padding", "hours",
        "pairs/s a rank", title=f"Simulated: {pluralize(batches['simulated'], 'batch')}", title_justify="left",
    )  # fmt: skip
    stages = Table(
        "ranks", "ZeRO", "weights", "gradients", "optimiser", "activations", "exchange", "update", "total", "fits",
        title="GB of a rank", title_justify="left",
    )  # fmt: skip
    for table in (division, stages):
        for column in table.columns:
            column.justify = "right"
    for found in report["ranks"]:
        division.add_row(
            f"{found['ranks']:,}",
            *(
                f"{low:,}" if low == high else f"{low:,} to {high:,}"
                for low, high in (found["samples"], found["tokens"])
            ),
            f"{found['balance']:.3f}",
            f"{found['text_padding']:.1%}",
            f"{found['image_padding']:.1%}",
            *(
                ("–", "–")
                if found["hours"] is None
                else (f"{found['hours']:,.3f}", f"{length['samples'] / found['hours'] / 3600 / found['ranks']:,.0f}")
            ),
        )
        for stage in found["memory"]:
            parts = ("weights", "gradients", "optimizer", "activations", "exchange", "update", "total")
            columns = (stage[name] for name in parts)
            fits = {None: "–", True: "yes", False: "no"}[stage["fits"]]
            stages.add_row(f"{found['ranks']:,}", str(stage["stage"]), *(f"{n / GB:.3f}" for n in columns), fits)
        stages.add_section()
    console.print(division)
    console.print(stages)
    say(f"The recipe asks for ZeRO {recipe.zero_stage}; the trainer has all of these.")


if __name__ == "__main__":
    run(app)
