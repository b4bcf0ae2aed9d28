"""What a pretraining run will take, before it is started.

``python -m pretrain.plan --config tiny --shards data/shards/train --devices 8 --devices 64``
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
import typer
from rich.table import Table

from parsers.command import InputError, console, pluralize, run, say
from pretrain.options import ConfigOption, Settings
from pretrain.recipe import PretrainRecipe
from pretrain.simulation import Memory, Simulation, hours_at_peak, hours_at_throughput, read_throughput
from pretrain.training.settings import find_recipe
from shards.joined import open_sets
from shards.schema import Array

GB = 1e9

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil plan --config tiny --shards data/shards/train "
    "--devices 8 --devices 64 --peak-tflops 312 --share 0.3 --device-memory 40"
)
def main(
    config: ConfigOption,
    shards: Annotated[
        list[str],
        typer.Option(
            help="Shards to train on: a folder, or a URL such as s3://bucket/train. May be repeated; see the recipe's "
            "passes."
        ),
    ],
    devices: Annotated[
        list[int] | None, typer.Option(min=1, help="Number of devices; may be repeated. Default: 8.")
    ] = None,
    set_: Settings = None,
    batches: Annotated[int, typer.Option(min=1, help="Global batches to simulate, from the first one on.")] = 200,
    throughput: Annotated[float | None, typer.Option(help="Measured samples per second.")] = None,
    from_run: Annotated[Path | None, typer.Option(help="Folder of a run whose throughput was measured.")] = None,
    measured_devices: Annotated[int, typer.Option(min=1, help="Devices that the throughput was measured with.")] = 1,
    peak_tflops: Annotated[float | None, typer.Option(help="Peak of a device, in TFLOP/s.")] = None,
    share: Annotated[float | None, typer.Option(help="Share of the peak that is reached, from 0 to 1.")] = None,
    device_memory: Annotated[float | None, typer.Option(help="Memory of a device in GB (1e9 bytes).")] = None,
    out: Annotated[Path | None, typer.Option(help="File for all figures (JSON).")] = None,
) -> None:
    """Print the epochs, balance, memory and hours of a run on any number of devices."""
    _check_options(throughput, from_run, peak_tflops, share)
    simulation = Simulation.of(
        PretrainRecipe.load(find_recipe(config, "pretrain"), set_ or []), open_sets(shards), batches
    )
    if from_run is not None:
        throughput = read_throughput(from_run)
    report: PlanReport = {
        "length": asdict(simulation.length),
        "parameters": simulation.parameters,
        "batches": _report_batches(simulation),
        "ranks": [],
    }
    for n in devices or [8]:
        division = simulation.divide(n)
        hours = None
        if throughput is not None:
            hours = hours_at_throughput(
                simulation.length.samples, throughput=throughput, measured_ranks=measured_devices, ranks=n
            )
        elif peak_tflops is not None and share is not None:
            steps = simulation.length.steps
            hours = hours_at_peak(division, simulation.costs, steps=steps, peak_tflops=peak_tflops, share=share)
        report["ranks"].append(
            {
                "ranks": n,
                "samples": (int(division.samples.sum(2).min()), int(division.samples.sum(2).max())),
                "tokens": (int(division.tokens.min()), int(division.tokens.max())),
                "balance": division.balance,
                "text_padding": division.text_padding,
                "image_padding": division.image_padding,
                "hours": hours,
                "memory": [
                    _report_memory(of_stage, device_memory) for of_stage in simulation.estimate_memory(division, n)
                ],
            }
        )
    _print(report, simulation.recipe)
    if out is not None:
        try:
            out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"--out {out}: cannot be written: {error.strerror}") from error


def _check_options(
    throughput: float | None, from_run: Path | None, peak_tflops: float | None, share: float | None
) -> None:
    """Raises typer.BadParameter if the options contradict each other or are out of range."""
    if sum(given is not None for given in (throughput, from_run, peak_tflops)) > 1:
        raise typer.BadParameter(
            "give one of --throughput, --from-run and --peak-tflops: each says how fast it will be"
        )
    if (peak_tflops is None) != (share is None):
        raise typer.BadParameter("--peak-tflops and --share belong together, e.g. --peak-tflops 312 --share 0.3")
    for option, value in (("--throughput", throughput), ("--peak-tflops", peak_tflops), ("--share", share)):
        if value is not None and not 0 < value < float("inf"):
            raise typer.BadParameter(f"{value} is not more than 0", param_hint=option)
    if share is not None and share > 1:
        raise typer.BadParameter(f"{share} is more than 1, the peak itself", param_hint="--share")


# -------------------------------------------------------------------------------------------------------------- report


class Spread(TypedDict):
    """How a length is distributed."""

    mean: float
    median: float
    longest: int


class BatchesReport(TypedDict):
    """The simulated batches. A token is a text position or an image row that is no padding."""

    simulated: int
    text_positions: Spread
    image_rows: Spread
    tokens: Spread
    run_tokens: int


class RankReport(TypedDict):
    """A run on a number of devices. ``samples`` and ``tokens`` are the fewest and the most of a rank in a step."""

    ranks: int
    samples: tuple[int, int]
    tokens: tuple[int, int]
    balance: float
    text_padding: float
    image_padding: float
    hours: float | None
    memory: list[dict[str, int | bool | None]]


class PlanReport(TypedDict):
    """What ``--out`` writes."""

    length: dict[str, int | float]
    parameters: int
    batches: BatchesReport
    ranks: list[RankReport]


def _report_batches(simulation: Simulation) -> BatchesReport:
    text = np.concatenate([batch.text for batch in simulation.batches])
    image = np.concatenate([batch.image for batch in simulation.batches])
    return {
        "simulated": len(simulation.batches),
        "text_positions": _measure_spread(text),
        "image_rows": _measure_spread(image),
        "tokens": _measure_spread(np.array([batch.tokens.sum() for batch in simulation.batches])),
        "run_tokens": round(float((text.mean() + image.mean()) * simulation.length.samples)),
    }


def _measure_spread(values: Array) -> Spread:
    return {"mean": float(values.mean()), "median": float(np.median(values)), "longest": int(values.max())}


def _report_memory(found: Memory, device_memory: float | None) -> dict[str, int | bool | None]:
    fits = None if device_memory is None else found.total <= device_memory * GB
    return {**asdict(found), "total": found.total, "fits": fits}


def _print(report: PlanReport, recipe: PretrainRecipe) -> None:
    length, batches = report["length"], report["batches"]
    say(f"{length['steps']:,} steps, {length['steps_per_epoch']:,} an epoch: {length['epochs']:.2f} epochs")
    say(f"{length['samples']:,} samples, about {batches['run_tokens']:,} text positions and image rows")
    for name, spread in (
        ("text positions", batches["text_positions"]),
        ("image rows", batches["image_rows"]),
        ("tokens of a batch", batches["tokens"]),
    ):
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
        rates = ("–", "–")
        if found["hours"] is not None:
            per_rank = length["samples"] / found["hours"] / 3600 / found["ranks"]
            rates = f"{found['hours']:,.3f}", f"{per_rank:,.0f}"
        division.add_row(
            f"{found['ranks']:,}",
            *(
                f"{low:,}" if low == high else f"{low:,} to {high:,}"
                for low, high in (found["samples"], found["tokens"])
            ),
            f"{found['balance']:.3f}",
            f"{found['text_padding']:.1%}",
            f"{found['image_padding']:.1%}",
            *rates,
        )
        for of_stage in found["memory"]:
            parts = ("weights", "gradients", "optimizer", "activations", "exchange", "update", "total")
            sizes = (f"{(of_stage[name] or 0) / GB:.3f}" for name in parts)
            fits = "–" if of_stage["fits"] is None else "yes" if of_stage["fits"] else "no"
            stages.add_row(f"{found['ranks']:,}", str(of_stage["stage"]), *sizes, fits)
        stages.add_section()
    console.print(division)
    console.print(stages)
    say(f"The recipe asks for ZeRO {recipe.zero_stage}; the trainer has all of these.")


if __name__ == "__main__":
    run(app)
