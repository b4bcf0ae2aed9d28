"""The profile of some steps: a trace for a viewer, and the most expensive operations by module.

PyTorch's profiler knows operations, not modules. While it runs, every module says when it is entered and left, which
tells where the operations of the forward pass belong. Those of the backward pass carry the sequence number of the
forward operation that they differentiate, and so belong to its module.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from parsers.command import console
from pretrain.training.settings import Profile

FOLDER = "profile"
SHOWN = 10
_MODULE, _BACKWARD, _OPTIMIZER = "module: ", "autograd::engine::evaluate_function", "Optimizer.step"


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of PyTorch in a place of the model."""

    module: str
    """path of the module, with ``*`` for the numbers of layers; empty outside of all modules"""
    phase: str
    """``forward``, ``backward`` or ``optimiser``"""
    name: str
    """PyTorch's name of the operation"""


class Profiler:
    """Profiles some steps of a rank."""

    def __init__(self, settings: Profile | None, model: nn.Module, out: Path, *, rank: int, cuda: bool) -> None:
        """Prepares to profile; nothing is profiled without settings.

        Args:
            settings: which steps to profile.
            model: operations are told apart by its modules.
            out: folder of the run; traces go to ``profile/rank-N.json``.
            rank: of this process; rank 0 prints.
            cuda: whether the device's time counts instead of the CPU's.
        """
        self._settings, self._model, self._rank, self._cuda = settings, model, rank, cuda
        self._path = out / FOLDER / f"rank-{rank}.json"
        self._done = 0
        self._watching = ExitStack()
        self._profile: Any = None  # `torch.profiler.profile`, whose methods have no types

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *_: object) -> None:
        if self._profile is not None:
            self._end()

    def begin_step(self) -> None:
        """Starts or ends the profile, if it is time. The trainer calls it at the beginning of each step."""
        if self._settings is None:
            return
        if self._done == self._settings.start:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._cuda else [])]
            self._watching.enter_context(label_modules(self._model))
            self._profile = self._watching.enter_context(profile(activities=activities, acc_events=True))
        elif self._profile is not None and self._done == self._settings.start + self._settings.steps:
            self._end()
        self._done += 1

    def _end(self) -> None:
        """Writes the trace and prints a summary. A run that ends early has fewer steps than were asked for."""
        assert self._settings is not None
        watched, self._profile = self._profile, None
        if self._cuda:
            torch.cuda.synchronize()
        self._watching.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        watched.export_chrome_trace(str(self._path))
        if self._rank == 0:
            steps = min(self._done, self._settings.start + self._settings.steps) - self._settings.start
            console.print(summarise_operations(watched.events(), steps, cuda=self._cuda))
            console.print(f"trace: {self._path} (open it in https://ui.perfetto.dev)", soft_wrap=True)


@contextmanager
def label_modules(model: nn.Module) -> Iterator[None]:
    """Labels each module with its path in a profile, inside the context."""
    open_ranges: list[record_function] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            open_ranges.append(record_function(_MODULE + name).__enter__())  # type: ignore[no-untyped-call]

        return hook

    def leave(*_: object) -> None:
        open_ranges.pop().__exit__(None, None, None)

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield


def time_operations(events: Iterable[FunctionEvent], *, cuda: bool) -> tuple[Counter[Operation], Counter[Operation]]:
    """Returns the microseconds and calls of each operation, without the operations that it calls.

    The device's time counts for the operation that has started the work there, and not once more for the kernel.

    Args:
        events: of a profile that was taken inside `label_modules`.
        cuda: whether the device's time counts instead of the CPU's.
    """
    events = [event for event in events if event.device_type == DeviceType.CPU]
    modules: dict[int, str] = {}
    for event in events:
        if event.sequence_nr >= 0 and (module := _module_of(event)) is not None:
            modules.setdefault(event.sequence_nr, module)
    spent, calls = Counter[Operation](), Counter[Operation]()
    for event in events:
        time = event.self_device_time_total if cuda else event.self_cpu_time_total
        if time > 0 and not event.name.startswith(_MODULE):
            operation = _operation(event, modules)
            spent[operation] += time
            calls[operation] += 1
    return spent, calls


def _module_of(event: FunctionEvent) -> str | None:
    """Returns the innermost module around an operation of the forward pass, None elsewhere."""
    for around in _around(event):
        if around.name.startswith(_BACKWARD):
            return None
        if around.name.startswith(_MODULE):
            return str(around.name.removeprefix(_MODULE))
    return None


def _operation(event: FunctionEvent, modules: dict[int, str]) -> Operation:
    phase, module = "forward", ""
    for around in _around(event):
        if around.name.startswith(_BACKWARD):
            phase, module = "backward", modules.get(around.sequence_nr, "")
            break
        if around.name.startswith(_OPTIMIZER):
            phase = "optimiser"
            break
        if around.name.startswith(_MODULE):
            module = around.name.removeprefix(_MODULE)
            break
    return Operation(re.sub(r"\b\d+\b", "*", module), phase, event.name.removeprefix(f"{_BACKWARD}: "))


def _around(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """Yields the event and those that contain it, from the innermost to the outermost."""
    around: FunctionEvent | None = event
    while around is not None:
        yield around
        around = around.cpu_parent


def summarise_operations(events: Iterable[FunctionEvent], steps: int, *, cuda: bool) -> Table:
    """Returns a table of the most expensive operations."""
    spent, calls = time_operations(events, cuda=cuda)
    title = f"{steps} steps: the {SHOWN} operations that took most {'device' if cuda else 'CPU'} time"
    table = Table("module", "pass", "operation", "ms a step", "share", "calls a step", title=title)
    for operation, time in spent.most_common(SHOWN):
        table.add_row(
            operation.module or "–",
            operation.phase,
            operation.name,
            f"{time / 1000 / steps:,.1f}",
            f"{time / spent.total():.1%}",
            f"{calls[operation] / steps:,.0f}",
        )
    return table
