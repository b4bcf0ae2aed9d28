"""Small models and batches for tests, and the released model's inputs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain.model.config import ModelConfig
from tests.models import released_inputs

REPOSITORY = Path(__file__).resolve().parents[3]
PARITY = REPOSITORY.parent / "shared" / "parity"
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason=f"no parity fixtures in {PARITY}")

# Every width differs, so that no two can be confused.
SMALL = {
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "sent_type_vocab_size": 4,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "t_biattention_id": (2, 3, 4),
    "v_feature_size": 12,
    "v_hidden_size": 20,
    "v_num_attention_heads": 5,
    "v_intermediate_size": 28,
    "v_biattention_id": (0, 1, 2),
    "co_hidden_size": 32,
    "co_num_attention_heads": 8,
    "class_size": 17,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}
SHALLOW = {"t_biattention_id": (1,), "v_biattention_id": (1,)}


def small(**changes):
    return ModelConfig(**(SMALL | changes))


def randomized(module, seed=0):
    """The module with every parameter random, biases and norms included, so that none is without effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


def a_batch(text_lengths=(9, 4, 7), image_lengths=(3, 6, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    samples, length, rows = len(text_lengths), max(text_lengths, default=5), max(image_lengths, default=5)
    text_mask = torch.arange(length) < torch.tensor(text_lengths, dtype=torch.int64)[:, None]
    image_mask = torch.arange(rows) < torch.tensor(image_lengths, dtype=torch.int64)[:, None]
    return {
        "token_ids": torch.randint(1, 60, (samples, length), generator=generator) * text_mask,
        "position_ids": torch.arange(length).expand(samples, length) * text_mask,
        "segment_ids": torch.randint(0, 4, (samples, length), generator=generator) * text_mask,
        "text_mask": text_mask,
        "features": torch.randn(samples, rows, 12, generator=generator) * image_mask[..., None],
        "locations": torch.rand(samples, rows, 5, generator=generator) * image_mask[..., None],
        "image_mask": image_mask,
    }


def gradients(model, **inputs):
    model.zero_grad(set_to_none=True)
    output = model(**inputs)
    tensors = [getattr(output, field) for field in vars(output)]
    sum(tensor.float().square().sum() for tensor in tensors).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def parity_config():
    return ModelConfig(**json.loads((PARITY / "tiny_config.json").read_text()), v_feature_size=12)


def parity_inputs(task):
    with np.load(PARITY / f"forward_{task}" / "inputs.npz") as arrays:
        tensors = [torch.from_numpy(arrays[name]) for name in sorted(arrays)]
    return released_inputs(tensors, task)[0]
