"""The encoder's training pass as compiled code: ``compile: true`` in a recipe.

Lengths are symbols in the code, so that one piece of code serves batches of every size. There are several pieces
because some batches need another graph: with a mask or without one in either stream, and with a single sample or row,
which broadcasting treats in its own way. A run meets one to four of them.

Each piece is made for a batch of zeros of a fixed size, when the first batch that needs it comes. How sums are split
depends on that size, so the code must not depend on which batch came first: a resumed run computes, bit by bit, what
the undisturbed one would have computed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._dynamo import config as dynamo_config
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch._functorch import config as autograd_config
from torch._inductor.compile_fx import compile_fx
from torch._inductor.decomposition import select_decomp_table
from torch.compiler import config as compiler_config

from pretrain.model.encoder import ErnieViL, ErnieViLOutput

_SAMPLES, _TEXT, _ROWS = 16, 24, 40
"""Sizes of the batch of zeros. No two are equal: equal sizes would become one symbol."""
_PIECES = 64
"""More pieces than there can be. PyTorch's own limit is eight."""


class CompiledForward:
    """The forward pass of an encoder in training; without gradients or samples it runs as it is written.

    Attributes:
        pieces: pieces of code that were made.
        recompilations: how often code was made again for a batch that an earlier piece should have served. More than
            0 is a fault of this class or of PyTorch, and costs minutes each time.
        why_not: why the code could not be compiled, if so; the pass then runs as it is written.
    """

    def __init__(self, encoder: ErnieViL, say: Callable[[str], None]) -> None:
        """Replaces ``encoder.forward``.

        Args:
            encoder: names and values of its parameters stay as they are.
            say: gets messages on what is compiled, which takes minutes, and what could not be compiled.
        """
        self.pieces = self.recompilations = 0
        self.why_not: str | None = None
        self._eager: Callable[..., ErnieViLOutput] = encoder.forward
        self._say = say
        self._preparing = False
        self._known: set[tuple[object, ...]] = set()
        self._backend = inductor()
        self._compiled: Callable[..., ErnieViLOutput] = torch.compile(
            encoder.forward, backend=self._compile, dynamic=True, fullgraph=True
        )
        encoder.forward = self  # type: ignore[method-assign]

    def __call__(self, **inputs: Tensor | None) -> ErnieViLOutput:
        """Runs the pass. The arguments are those of `ErnieViL.forward`."""
        # A rank whose share of a short last batch is empty has nothing to compute, and would need a graph for that.
        empty = any(0 in tensor.shape for tensor in inputs.values() if tensor is not None)
        if empty or self.why_not is not None or not torch.is_grad_enabled():
            return self._eager(**inputs)
        try:
            # The code of the backward pass is made at once, too, so that what cannot be compiled is known here. The tag
            # keeps it apart, in PyTorch's cache on the disk, from code that was made for a batch of other sizes.
            with (
                dynamo_config.patch(recompile_limit=_PIECES),
                compiler_config.patch(cache_key_tag=f"zeros {_SAMPLES} {_TEXT} {_ROWS}"),  # type: ignore[attr-defined]
                autograd_config.patch(force_non_lazy_backward_lowering=True),
            ):
                self._prepare(inputs)
                return self._compiled(**inputs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            self.why_not = _reason(error)
            self._say(f"the encoder cannot be compiled and runs as it is written: {self.why_not}")
            return self._eager(**inputs)

    def _prepare(self, inputs: dict[str, Tensor | None]) -> None:
        """Makes the piece of code for a batch of this kind, if there is none yet."""
        kind = tuple(None if t is None else (t.dtype, *(size == 1 for size in t.shape[:2])) for t in inputs.values())
        if kind in self._known:
            return
        self._known.add(kind)
        self.pieces += 1
        self._say(f"piece {self.pieces} of the encoder's code is made, which takes minutes")
        self._preparing = True
        try:
            with torch.random.fork_rng(_devices(inputs)):
                self._compiled(**{name: None if t is None else _zeros(name, t) for name, t in inputs.items()})
        finally:
            self._preparing = False

    def _compile(self, graph: torch.fx.GraphModule, examples: list[Any]) -> Any:
        if not self._preparing:
            self.recompilations += 1
            self._say("a piece of the encoder's code is made again")
        return self._backend(graph, examples)


def inductor() -> Callable[[torch.fx.GraphModule, list[Any]], Any]:
    """Returns PyTorch's generator of code, which leaves the gradient of embeddings to PyTorch's own operation.

    The generated code would add up the rows of one word in the order in which threads come by, which differs.
    """
    decompositions = dict(select_decomp_table())
    del decompositions[torch.ops.aten.embedding_dense_backward.default]
    return partial(compile_fx, decompositions=decompositions)


def _zeros(name: str, tensor: Tensor) -> Tensor:
    """Returns a tensor of zeros of the fixed size in the place of a batch's tensor. Masks hide nothing."""
    fixed = _SAMPLES, _ROWS if name in ("features", "locations", "image_mask") else _TEXT
    sizes = [1 if size == 1 else other for size, other in zip(tensor.shape[:2], fixed, strict=True)]
    return tensor.new_full((*sizes, *tensor.shape[2:]), tensor.dtype == torch.bool)


def _reason(error: Exception) -> str:
    """Returns one line of a message that may have hundreds: a compiler's first error, or else the first line."""
    cause = getattr(error, "inner_exception", error)
    lines = str(cause).strip().splitlines() or [""]
    return f"{type(cause).__name__}: {next((line for line in lines if 'error:' in line), lines[0])}"


def _devices(inputs: dict[str, Tensor | None]) -> list[torch.device]:
    """Returns the devices whose random numbers must go on as if nothing had been compiled."""
    return list({t.device for t in inputs.values() if t is not None and t.device.type == "cuda"})
