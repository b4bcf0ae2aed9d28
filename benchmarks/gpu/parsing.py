"""The neural parser on the device: the same graphs as on the CPU, and how fast."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.gpu.steps import Findings, Setting
from parsers.neural.parser import NeuralParser
from pipeline import toyworld


def _captions(count: int) -> list[str]:
    """Describes toy scenes."""
    found: list[str] = []
    for number in range(-(-count // 5)):
        random = np.random.default_rng(number)
        scene = toyworld.sample_scene(number, random)
        found += [caption.text for caption in toyworld.describe(scene, 5, random)]
    return found[:count]


def graphs(setting: Setting, findings: Findings) -> None:
    """Compares the graphs of generated captions one by one."""
    captions = _captions(100 if setting.tiny else 2000)
    wanted, found = (NeuralParser(device=device).parse(captions) for device in ("cpu", setting.device))
    different = [text for text, a, b in zip(captions, wanted, found, strict=True) if a != b]
    findings.figures |= {"captions": len(captions), "objects": sum(len(graph.objects) for graph in wanted)}
    assert not different, f"{len(different)} graphs differ, the first of {different[0]!r}"


def speed(setting: Setting, findings: Findings) -> None:
    """Measures the captions per second of one process."""
    captions = _captions(200 if setting.tiny else 10_000)
    for device in dict.fromkeys((setting.device, "cpu")):
        parser = NeuralParser(device=device)
        parser.parse(captions[:100])  # warms up
        started = time.perf_counter()
        parser.parse(captions)
        findings.figures[f"captions/s on {device}"] = len(captions) / (time.perf_counter() - started)
