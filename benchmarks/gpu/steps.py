"""The steps of the check, the most valuable first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Figure = int | float | str


class Skip(Exception):
    """A step does not apply; the message says why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all steps of a run share."""

    device: str
    """``cuda`` or ``cpu``"""
    tiny: bool
    """whether to use little data, and the tiny model in place of larger ones, to see that the steps run"""
    scratch: Path
    """folder for large files, which the steps share"""
    log: Path
    """file that gets all that a step prints"""

    def size(self, model: str) -> str:
        """Returns the name of the model to use where a step asks for this one."""
        return "tiny" if self.tiny else model


@dataclass(slots=True)
class Findings:
    """The findings of a step so far. They stand in the report even if the step fails later."""

    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def bound(self, name: str, value: float, most: float) -> None:
        """Adds a figure. If it is more than ``most``, the step has failed."""
        self.figures[name] = value
        if not value <= most:  # nor NaN
            self.failures.append(f"{name}: {value:.3g}, at most {most:g} is right")

    def aim(self, name: str, value: float, *, least: float = -math.inf, most: float = math.inf) -> None:
        """Adds a figure. If it is outside of its aim, a note says so."""
        self.figures[name] = value
        bounds = [f"at least {least:g}"] * (least > -math.inf) + [f"at most {most:g}"] * (most < math.inf)
        wanted = " and ".join(bounds)
        if not least <= value <= most:
            self.notes.append(f"aim missed: {name} {value:.3g}, aim {wanted}")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to find out, in a process of its own."""

    name: str
    work: str
    """``module:function``, called with a `Setting`, the `Findings` to fill and the arguments"""
    seconds: float
    """seconds after which the step is stopped"""
    arguments: Mapping[str, Figure] = field(default_factory=dict)


_CORRECTNESS, _KERNELS, _DETECTORS = "benchmarks.gpu.correctness", "benchmarks.gpu.kernels", "benchmarks.gpu.detectors"
_TRAINING, _SPEED, _MEMORY = "benchmarks.gpu.training", "benchmarks.gpu.speed", "benchmarks.gpu.memory"
_PARSING, _RETRIEVAL = "benchmarks.gpu.parsing", "benchmarks.gpu.retrieval"


def _stage(precision: str, zero: int, *, offload: bool = False, recompute: bool = False) -> Step:
    """Returns the step of a short training run. ``recompute`` means gradient checkpointing."""
    name = f"train {precision}, ZeRO {zero}" + ", offload" * offload + ", gradient checkpointing" * recompute
    arguments: dict[str, Figure] = {"precision": precision, "zero": zero, "offload": offload, "recompute": recompute}
    return Step(name, f"{_TRAINING}:stage", 45, arguments)


STEPS = (
    Step("device", f"{_KERNELS}:device", 90),
    Step("model tiny", f"{_CORRECTNESS}:model", 60, {"size": "tiny"}),
    Step("model base", f"{_CORRECTNESS}:model", 90, {"size": "base"}),
    Step("attention", f"{_KERNELS}:attention", 60),
    Step("padding", f"{_CORRECTNESS}:padding", 45),
    _stage("fp32", 0),
    _stage("bf16", 0),
    Step("NCCL", f"{_TRAINING}:nccl", 45),
    Step("attention speed", f"{_KERNELS}:attention_speed", 45),
    Step("speed base", f"{_SPEED}:speed", 150, {"size": "base", "compiled": False}),
    Step("speed base, compiled", f"{_SPEED}:speed", 180, {"size": "base", "compiled": True}),
    Step("resume after SIGKILL", f"{_TRAINING}:resume", 90),
    Step("out of memory", f"{_MEMORY}:out_of_memory", 90),
    Step("parser", f"{_PARSING}:graphs", 30),
    Step("detector vg-bottom-up", f"{_DETECTORS}:visual_genome", 60),
    Step("detector torchvision", f"{_DETECTORS}:torchvision", 45),
    *(_stage("bf16", zero) for zero in (2, 3, 1)),
    _stage("bf16", 2, offload=True),
    _stage("bf16", 0, recompute=True),
    Step("universal checkpoint", f"{_TRAINING}:universal", 90),
    Step("extract vg-bottom-up", f"{_DETECTORS}:extract_visual_genome", 60),
    Step("extract torchvision", f"{_DETECTORS}:extract_torchvision", 45),
    Step("parser speed", f"{_PARSING}:speed", 30),
    Step("retrieval", f"{_RETRIEVAL}:speed", 60),
    Step("model large", f"{_CORRECTNESS}:model", 90, {"size": "large"}),
    Step("speed large", f"{_SPEED}:speed", 150, {"size": "large", "compiled": False}),
    *(_stage("fp32", zero) for zero in (2, 3, 1)),
    Step("speed large, compiled", f"{_SPEED}:speed", 180, {"size": "large", "compiled": True}),
)
