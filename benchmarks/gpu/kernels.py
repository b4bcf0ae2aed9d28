"""The device itself, and the kernels of attention on it; PyTorch alone."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.steps import Findings, Setting

BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Largest relative error of attention and its gradients against float64."""
SHAPES = {"text": (12, 16, 16, 64), "image": (8, 40, 40, 128), "text to image": (8, 16, 40, 128)}
"""Heads, queries, keys and width of a head in the base model."""
BACKENDS = {
    "default": None,
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
}
REFUSALS = "available kernel", "viable backend", "cuDNN Frontend error"
"""Parts of PyTorch's messages on kernels that do not take these types and shapes."""


def device(setting: Setting, findings: Findings) -> None:
    """Reports the properties of the device, and how fast it multiplies large matrices."""
    findings.figures["CUDA of torch"] = str(torch.version.cuda)
    if setting.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        findings.figures |= {
            "name": properties.name,
            "memory GB": properties.total_memory / 1e9,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "cuDNN": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        }
    else:
        findings.figures["name"] = platform.processor() or platform.machine()
    order = 256 if setting.tiny else 8192
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        matrix = torch.randn(order, order, device=setting.device, dtype=dtype)
        best = min(_seconds(partial(torch.mm, matrix, matrix), setting) for _ in range(5))
        findings.figures[f"matmul {name} TFLOP/s"] = 2 * order**3 / best / 1e12


def _seconds(work: Callable[[], object], setting: Setting) -> float:
    synchronize(setting)
    started = time.perf_counter()
    work()
    synchronize(setting)
    return time.perf_counter() - started


def synchronize(setting: Setting) -> None:
    """Waits until the device has finished."""
    if setting.device == "cuda":
        torch.cuda.synchronize()


def attention(setting: Setting, findings: Findings) -> None:
    """Compares every kernel with float64, with and without a mask, forward and backward; the worst shape counts."""
    worst: dict[str, float] = {}
    generator = torch.Generator().manual_seed(0)
    for (heads, queries, keys, width), masked, dtype in product(SHAPES.values(), (False, True), BOUNDS):
        sizes = [(4, 2 if setting.tiny else heads, length, width) for length in (queries, keys, keys)]
        tensors = [torch.randn(size, generator=generator).to(dtype) for size in sizes]
        lengths = torch.randint(1, keys + 1, (4, 1), generator=generator)
        mask = (torch.arange(keys) < lengths)[:, None, None, :] if masked else None
        exact = _attend(tensors, mask, torch.float64, SDPBackend.MATH, "cpu")
        for backend, kind in BACKENDS.items():
            try:
                found = _attend(tensors, mask, dtype, kind, setting.device)
            except RuntimeError as error:
                if kind is None or not any(refusal in str(error) for refusal in REFUSALS):
                    raise
                continue
            errors = [float((a.cpu().double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
            name = f"{backend} {str(dtype).removeprefix('torch.')}" + " with mask" * masked
            worst[name] = max(worst.get(name, 0.0), *errors)
    for name, value in worst.items():
        findings.bound(name, value, BOUNDS[torch.float32 if "float32" in name else torch.bfloat16])


def _attend(
    tensors: list[Tensor], mask: Tensor | None, dtype: torch.dtype, backend: SDPBackend | None, device: str
) -> list[Tensor]:
    """Returns the output of a kernel, and the gradients of queries, keys and values."""
    query, key, value = (tensor.detach().to(device, dtype).requires_grad_() for tensor in tensors)
    with nullcontext() if backend is None else sdpa_kernel(backend):
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=None if mask is None else mask.to(device))
        weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(device, dtype)
        gradients = torch.autograd.grad(out, (query, key, value), weights)
    return [out.detach(), *gradients]


def attention_speed(setting: Setting, findings: Findings) -> None:
    """Times a forward and a backward pass of every kernel in bf16 with dropout: which one should train."""
    samples, repeats = (2, 1) if setting.tiny else (4096, 10)
    for (name, (heads, queries, keys, width)), masked in product(SHAPES.items(), (False, True)):
        query, key, value = (
            torch.randn(samples, heads, length, width, device=setting.device, dtype=torch.bfloat16, requires_grad=True)
            for length in (queries, keys, keys)
        )
        mask = torch.ones(samples, 1, 1, keys, dtype=torch.bool, device=setting.device) if masked else None
        work = partial(_pass, query, key, value, mask)
        for backend, kind in BACKENDS.items():
            with nullcontext() if kind is None else sdpa_kernel(kind):
                try:
                    work()
                except RuntimeError as error:
                    if kind is None or not any(refusal in str(error) for refusal in REFUSALS):
                        raise
                    continue
                seconds = min(_seconds(work, setting) for _ in range(repeats))
            findings.figures[f"ms {name}{', mask' * masked}: {backend}"] = 1e3 * seconds


def _pass(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=0.1)
    torch.autograd.grad(out, (query, key, value), out.detach())


KERNELS = {"cuDNN": "cudnn_generated", "flash": "flash", "efficient": "fmha_cutlass"}
"""Parts of the names of CUDA kernels; cuDNN's are also called flash."""


def attention_kernels(names: Iterable[str]) -> str:
    """Returns the kernels of attention among CUDA kernels with these names."""
    kinds = (next((kind for kind, part in KERNELS.items() if part in name.lower()), None) for name in names)
    return ", ".join(sorted({kind for kind in kinds if kind})) or "none fused"
