"""What a device did in a profiled step, by kind of work, from the trace that the trainer writes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

GROUPS = {
    "copies to the device": r"memcpy htod",
    "attention": r"cudnn_generated|flash|fmha",
    "matrix products": r"nvjet|gemm|gemv|cutlass|xmma|cublas|splitk",
    "layer norm": r"layer_?norm|gammabeta",
    "copies on the device": r"memcpy|memset|direct_copy|catarray",
}
"""Patterns of the names of kernels; the first that fits counts."""
REST, OPTIMISER, IDLE = "dropout and other elementwise", "optimiser", "idle"
_BACKWARD = "autograd::engine::evaluate_function"


def device_shares(events: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns the share of each kind of work in the time of a step, and of the time in which the device had none.

    Whatever is started after the last operation of the backward pass belongs to the optimiser. Work of several streams
    may overlap.

    Args:
        events: ``traceEvents`` of the trace of one step. Without work on a device there are no shares.
    """
    work = [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    if not work:
        return {}
    started = {
        event["args"]["correlation"]: event["ts"]
        for event in events
        if event.get("cat") in ("cuda_runtime", "cuda_driver") and "correlation" in event.get("args", {})
    }
    steps = [event for event in events if event.get("cat") == "cpu_op"]
    backward = max((_end(event) for event in steps if event["name"].startswith(_BACKWARD)), default=float("inf"))
    begin = min(event["ts"] for event in (*steps, *work))
    whole = max(map(_end, work)) - begin
    spent: defaultdict[str, float] = defaultdict(float)
    for event in work:
        late = started.get(event.get("args", {}).get("correlation"), event["ts"]) >= backward
        spent[_group(event["name"], late=late)] += event["dur"]
    return {name: spent[name] / whole for name in (*GROUPS, REST, OPTIMISER)} | {IDLE: 1 - _busy(work) / whole}


def _group(name: str, *, late: bool) -> str:
    found = next((group for group, pattern in GROUPS.items() if re.search(pattern, name.lower())), REST)
    return OPTIMISER if late and found != "copies to the device" else found


def _busy(work: Sequence[dict[str, Any]]) -> float:
    """Returns the time in which there was any work."""
    busy = until = 0.0
    for event in sorted(work, key=lambda event: event["ts"]):
        busy += max(0.0, _end(event) - max(until, event["ts"]))
        until = max(until, _end(event))
    return busy


def _end(event: dict[str, Any]) -> float:
    return float(event["ts"] + event["dur"])
