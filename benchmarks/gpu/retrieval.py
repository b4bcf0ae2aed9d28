"""Scores captions with images for retrieval, compares the scores with those of the CPU, and measures the speed."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import torch

from benchmarks.gpu.correctness import EXACT, error
from benchmarks.gpu.kernels import synchronize
from benchmarks.gpu.steps import Findings, Setting
from benchmarks.retrieval import Slice
from finetune.heads import FineTunedModel, RetrievalHead
from finetune.inputs import ImageRows, TokenizedText
from finetune.tasks.retrieval.score_matrix import PairScorer
from pretrain.model.config import ModelConfig
from shards.schema import Array

PRECISIONS: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")


def speed(setting: Setting, findings: Findings) -> None:
    """Measures pairs per second of the base model, encoding included, with the lengths of Flickr30k."""
    config = ModelConfig.of_size(setting.size("base"))
    pairs, batch = (16, 8) if setting.tiny else (2048, 512)
    torch.manual_seed(0)
    model = FineTunedModel(config, RetrievalHead(config)).eval()
    part = Slice(config, pairs, strata=4)

    def scores(
        texts: list[TokenizedText], images: list[ImageRows], device: str, precision: Literal["fp32", "bf16"]
    ) -> Array:
        scorer = PairScorer(
            model.to(device), part.sources, device=torch.device(device), precision=precision, batch_size=batch
        )
        every = np.argwhere(np.ones((len(texts), len(images)), bool))
        return scorer.score(scorer.encode_texts(texts), scorer.encode_images(images), every)

    few = part.near[0][0], part.near[0][1][:4]
    wanted, found = (torch.from_numpy(scores(*few, device, "fp32")) for device in ("cpu", setting.device))
    findings.bound("scores fp32", error([found], [wanted]), EXACT)
    for precision in PRECISIONS:
        scores(*part.near[0], setting.device, precision)  # warms up
        synchronize(setting)
        started = time.perf_counter()
        scored = sum(scores(*some, setting.device, precision).size for some in part.near)
        findings.figures[f"pairs/s {precision}"] = scored / (time.perf_counter() - started)
