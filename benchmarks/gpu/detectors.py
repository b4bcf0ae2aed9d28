"""The detectors, unit by unit, on the device beside the CPU; and how many pictures a second the stage extracts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torchvision.ops import nms, roi_pool

from benchmarks.gpu.correctness import EXACT, error
from benchmarks.gpu.steps import Findings, Setting
from pipeline import toyworld
from pipeline.detectors.torchvision import TorchvisionDetector
from pipeline.detectors.visual_genome import PRESETS, DetectionSettings, VisualGenomeDetector
from pipeline.detectors.visual_genome.network import BOXES_AT_ONCE, POOLED, VisualGenomeNetwork
from pipeline.detectors.visual_genome.proposals import NMS_THRESHOLD, STRIDE, propose
from shards.schema import Array

CLOSE_CALLS = 0.02
"""Share of boxes for which the last bit may decide whether they overlap too much."""
MOBILENET = "fasterrcnn_mobilenet_v3_large_320_fpn"


def picture(number: int) -> Array:
    """Draws a toy scene, uint8 [480, 640, 3]."""
    scene = toyworld.sample_scene(number, np.random.default_rng(number))
    return np.asarray(toyworld.render(scene, scale=2))


def _settings(setting: Setting) -> DetectionSettings:
    return DetectionSettings("butd", 10, 36, 32, 32) if setting.tiny else PRESETS["ernie-vil"]


def _weights(setting: Setting) -> str:
    """Returns a file of random weights. The first step that asks for it writes it."""
    path = setting.scratch / "visual-genome.safetensors"
    if not path.is_file():
        torch.manual_seed(0)
        new = path.with_suffix(".new")
        save_file(VisualGenomeNetwork().state_dict(), new)
        new.rename(path)
    return str(path)


def visual_genome(setting: Setting, findings: Findings) -> None:
    """Gives every unit the same input on both devices: backbone, proposals, suppression, pooling, heads, the whole."""
    options: dict[str, Any] = {"weights": _weights(setting), "preset": _settings(setting)}
    plain, other = (VisualGenomeDetector(**options, device=device) for device in ("cpu", setting.device))
    pixels = picture(0)
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
        ready = plain.prepare(pixels)
        findings.bound("preparation", error([other.prepare(pixels).pixels.cpu()], [ready.pixels]), EXACT)
        enter = ready.pixels.to(memory_format=torch.channels_last)
        cells = plain.network.backbone(enter)
        findings.bound("backbone", error([other.network.backbone(enter.to(setting.device)).cpu()], [cells]), EXACT)
        heads = [one.network.proposal_generator.rpn_head for one in (plain, other)]
        (logits,), (deltas,) = heads[0](cells)
        there = heads[1](cells.to(setting.device))
        findings.bound("proposal head", error([each[0].cpu() for each in there], [logits, deltas]), EXACT)
        (anchors,) = plain.network.proposal_generator.anchor_generator.cell_anchors
        boxes, scores = propose(logits, deltas, anchors, ready.size)
        inputs = [tensor.to(setting.device) for tensor in (logits, deltas, anchors)]
        found, _ = propose(inputs[0], inputs[1], inputs[2], ready.size)
        findings.figures["proposals"] = len(boxes)
        findings.bound("proposals of their own", 1 - _alike(boxes.numpy(), found.cpu().numpy()), CLOSE_CALLS)
        kept = nms(boxes, scores, NMS_THRESHOLD / 2)
        others = nms(boxes.to(setting.device), scores.to(setting.device), NMS_THRESHOLD / 2).cpu()
        alone = float((~torch.isin(kept, others)).float().mean())
        findings.bound("rows that suppression keeps on one alone", alone, CLOSE_CALLS)
        some = boxes[:BOXES_AT_ONCE]
        pooled = roi_pool(cells.contiguous(), [some], POOLED, 1 / STRIDE)
        moved = roi_pool(cells.contiguous().to(setting.device), [some.to(setting.device)], POOLED, 1 / STRIDE)
        findings.bound("pooling", error([moved.cpu()], [pooled]), EXACT)
        wanted = plain.network.roi_heads(cells, boxes)
        described = other.network.roi_heads(cells.to(setting.device), boxes.to(setting.device))
        for name in ("features", "class_probs"):
            findings.bound(name, error([getattr(described, name).cpu()], [getattr(wanted, name)]), EXACT)
    whole, wholes = (one.detect([pixels])[0] for one in (plain, other))
    findings.figures["regions alike from end to end"] = _alike(whole.boxes, wholes.boxes)


def torchvision(setting: Setting, findings: Findings) -> None:
    """Compares torchvision's detector on both devices: descriptions of given boxes, and regions that are found."""
    plain, other = (
        TorchvisionDetector(MOBILENET, weights="random", device=device) for device in ("cpu", setting.device)
    )
    pixels = picture(0)
    (whole,), (found,) = (one.detect([pixels]) for one in (plain, other))
    findings.figures |= {"regions": len(whole.boxes), "regions alike from end to end": _alike(whole.boxes, found.boxes)}
    (described,) = other.detect([pixels], [whole.boxes])
    for name in ("features", "class_probs"):
        pair = [torch.from_numpy(getattr(one, name)) for one in (described, whole)]
        findings.bound(name, error(pair[:1], pair[1:]), EXACT)


def _alike(boxes: Array, others: Array) -> float:
    """Returns the share of boxes that are among the others, to a hundredth of a pixel."""
    near = np.abs(boxes[:, None] - others).max(2) < 0.01
    return float(near.any(1).mean())


# ------------------------------------------------------------------------------------------------------------ the stage


def extract_visual_genome(setting: Setting, findings: Findings) -> None:
    """Measures the pictures per second of ``vg-bottom-up``."""
    options = {"weights": _weights(setting), "preset": _settings(setting)}
    _extract(setting, findings, "vg-bottom-up", options, 2 if setting.tiny else 64)


def extract_torchvision(setting: Setting, findings: Findings) -> None:
    """Measures the pictures per second of torchvision's smallest detector."""
    _extract(setting, findings, f"torchvision:{MOBILENET}", {"weights": "random"}, 4 if setting.tiny else 128)


def _extract(setting: Setting, findings: Findings, detector: str, options: dict[str, Any], count: int) -> None:
    """Measures the pictures per second of a detector, and adds a figure for each precision to the findings.

    The stage runs as in ``pipeline.extract``: pictures are decoded while the network works on others. It is run once
    before on an eighth of them, to warm up.

    Args:
        setting: the device, and whether this is a quick trial. A trial runs only in bf16.
        findings: where the figures go.
        detector: the name of the detector.
        options: its options, but for the device and the precision.
        count: number of generated pictures.
    """
    from benchmarks.extract import make_stage
    from pipeline import detectors
    from pipeline.execution.parts import Part
    from pipeline.extract.stage import PicturePartition

    pictures = setting.scratch / f"pictures-{count}"
    pictures.mkdir()
    for number in range(count):
        _save(picture(number), pictures / f"{number:06d}.jpg")
    for precision in ("bf16",) if setting.tiny else ("fp32", "bf16"):
        chosen = options | {"device": setting.device, "precision": precision}
        stage, sources = make_stage(pictures, detector, chosen, detectors.get(detector, **chosen), 8, count)
        extract = stage.worker()
        for number, some in enumerate((sources[: max(1, count // 8)], sources)):  # the first to warm up
            folder = setting.scratch / f"{pictures.name}-{precision}-{number}"
            folder.mkdir()
            part = Part(folder, 0)
            started = time.perf_counter()
            extract(PicturePartition(some, [], 0), part)
            seconds = time.perf_counter() - started
            assert not part.rejects, f"pictures were rejected: {part.rejects[:3]}"
            part.discard()
        findings.figures[f"pictures/s {precision}"] = len(sources) / seconds


def _save(pixels: Array, path: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path, quality=90)
