"""Where a training step of the base model and of LXMERT spends its time, and what changes to the model would bring.

``python -m benchmarks.step_costs`` takes the time of every operation of `benchmarks.model`'s training step, then times
matrix multiplications of the same shapes alone, then whole steps with one thing changed. Float32, one thread, seconds
of the CPU, everything in turns. PyTorch's profiler has the wall clock alone, which counts waiting for a shared core.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.model import (
    LXMERT,
    OURS,
    BatchShape,
    Contestant,
    ImageRows,
    ModelSize,
    Pairs,
    TextPositions,
    make,
    make_optimizer,
    step,
)
from benchmarks.results import publish
from benchmarks.turns import ROUNDS, Out, Rounds, cpu, machine, ratio, spread, take_turns
from parsers.command import run
from pretrain.model.attention import MultiHeadAttention
from pretrain.model.config import ModelConfig

FORWARD, INPUTS, WEIGHTS = PRODUCTS = ("multiplications, forward", "gradients of inputs", "gradients of weights")
ATTENTION, DROPOUT, SUMS = "attention: scores, softmax, values", "dropout", "residuals, sums of gradients"
EMBEDDINGS, LOSSES, REST = "embeddings", "losses", "all else"
KINDS = {
    "bmm": ATTENTION,
    "_softmax": ATTENTION,
    "_safe_softmax": ATTENTION,
    "_softmax_backward_data": ATTENTION,
    "mul.Scalar": ATTENTION,
    "div.Tensor": ATTENTION,
    "where": ATTENTION,
    "_scaled_dot_product_flash_attention_for_cpu": ATTENTION,
    "_scaled_dot_product_flash_attention_for_cpu_backward": ATTENTION,
    "clone": "attention: copies of heads",
    "bernoulli_": DROPOUT,
    "empty_like": DROPOUT,
    "div_": DROPOUT,
    "mul.Tensor": DROPOUT,
    "native_layer_norm": "layer norm",
    "native_layer_norm_backward": "layer norm",
    "gelu": "GELU",
    "gelu_backward": "GELU",
    "sum.dim_IntList": "gradients of biases",
    "add.Tensor": SUMS,
    "embedding": EMBEDDINGS,
    "embedding_dense_backward": EMBEDDINGS,
    "_log_softmax": LOSSES,
    "_log_softmax_backward_data": LOSSES,
    "nll_loss_forward": LOSSES,
    "nll_loss_backward": LOSSES,
    "_fused_adamw_": "AdamW",
}
"""The kind that an operation is counted as, by its name or by the name of one form of it."""
OTHERS = (*dict.fromkeys(KINDS.values()), REST)
MKL, ONEDNN = "MKL", "oneDNN"
SHOWN = 0.03  # of all multiplications
Change = Callable[[], AbstractContextManager[object]]
"""A context in which something about a model is different."""
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.step_costs --size base --rounds 5")
def main(
    config: ModelSize = "base",
    batch: Pairs = 16,
    text: TextPositions = 20,
    rows: ImageRows = 37,
    compiled: Annotated[bool, typer.Option(help="Compile the encoder, too: minutes.")] = False,
    rounds: Rounds = ROUNDS,
    out: Out = None,
) -> None:
    """Time the parts of a training step."""
    torch.set_num_threads(1)
    size, model_config, device = (
        BatchShape(batch, text, rows),
        ModelConfig.of_size(config),
        torch.device("cpu"),
    )
    contestants = {name: make(name, model_config, size, device) for name in (OURS, LXMERT)}
    steps = {name: TrainingStep(contestant, make_optimizer(contestant)) for name, contestant in contestants.items()}
    title = f"{config}, {batch} pairs of {text} word pieces and {rows} image rows; {machine()}, one thread"
    operations = _tabulate_operations(steps, rounds)
    del steps[LXMERT], contestants  # for the memory
    publish([title, *operations, _tabulate_changes(steps[OURS], rounds, compiled)], [], out)


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A training step of a contestant, as it is or with something changed."""

    contestant: Contestant
    optimizer: torch.optim.Optimizer

    def __call__(self, change: Change = nullcontext) -> None:
        """Takes the step."""
        with change():
            step(self.contestant, self.optimizer)


# ----------------------------------------------------------------------------------------------------------- operations


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix multiplication, [rows, inner] by [inner, columns]."""

    kind: str
    """one of `PRODUCTS`; says how the factors lie in memory"""
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Number of multiplications and additions of one product."""
        return 2 * self.rows * self.inner * self.columns

    def alone(self) -> Callable[[], object]:
        """Returns work that repeats this multiplication often enough to be timed; its factors stay in the cache."""
        left, right = torch.randn(self.rows, self.inner), torch.randn(self.inner, self.columns)
        multiply: Callable[[], object] = partial(torch.mm, left, right)
        if self.kind == FORWARD:
            multiply = partial(F.linear, left, right.t().contiguous(), torch.randn(self.columns))
        elif self.kind == WEIGHTS:
            multiply = partial(torch.mm, left.t().contiguous().t(), right)
        return partial(_repeat, multiply, self.repetitions)

    def by_onednn(self) -> Callable[[], object]:
        """Returns the same work as `alone`, with the library that PyTorch uses for bfloat16."""
        factors = torch.randn(self.rows, self.inner), torch.randn(self.columns, self.inner), torch.randn(self.columns)
        linear = partial(torch.ops.mkldnn._linear_pointwise, *factors, "none", [], "")
        return partial(_repeat, linear, self.repetitions)

    @property
    def repetitions(self) -> int:
        """How often the multiplication is computed in one measurement: for about 10¹⁰ FLOP in all, at least once."""
        return 1 + int(1e10) // self.flops


def _repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


class Stopwatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the seconds of the CPU of the operations inside the context."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kinds: defaultdict[str, float] = defaultdict(float)
        self.products: defaultdict[Product, float] = defaultdict(float)
        self.calls = Counter[Product]()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation of PyTorch, returns its result, and adds its CPU time to the kind of the operation."""
        node = torch._C._current_autograd_node()
        begin = time.thread_time()
        result = func(*args, **(kwargs or {}))
        seconds = time.thread_time() - begin
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm"):
            left, right = args[-2:]
            transposed = left.stride(0) == 1
            kind = FORWARD if node is None else WEIGHTS if transposed else INPUTS
            product = Product(kind, left.shape[0], left.shape[1], right.shape[1])
            self.products[product] += seconds
            self.calls[product] += 1
            self.flops += product.flops
        elif node is not None and node.name() == "EmbeddingBackward0":
            kind = EMBEDDINGS  # with the sum of both gradients of a matrix that is embedding and output
        else:
            kind = KINDS.get(name) or KINDS.get(f"{name}.{func._overloadname}", REST)
        if name == "bmm":
            self.flops += 2 * args[0].numel() * args[1].shape[2]
        self.kinds[kind] += seconds
        return result


def _watch(step: TrainingStep) -> Stopwatch:
    watch = Stopwatch()
    with watch:
        step()
    return watch


def _tabulate_operations(steps: dict[str, TrainingStep], rounds: int) -> list[Table | str]:
    """Tabulates the kinds of operations, the bound that follows from them, and the shapes of multiplications."""
    whole = {name: cpu(turns) for name, turns in take_turns(steps, rounds).items()}
    watching = {name: partial(_watch, one) for name, one in steps.items()}
    watches = {name: [turn.result for turn in turns] for name, turns in take_turns(watching, rounds).items()}
    spent = {
        name: {kind: median(watch.kinds[kind] for watch in found) for kind in dict.fromkeys((*PRODUCTS, *OTHERS))}
        for name, found in watches.items()
    }
    table = Table("", title="Operations of a step, seconds", title_justify="left")
    for name in spent:
        table.add_column(name, justify="right")
        table.add_column("share", justify="right")
    for kind in spent[OURS]:
        cells = ((f"{of[kind]:.3f}", f"{of[kind] / sum(of.values()):.1%}") for of in spent.values())
        table.add_row(kind, *(cell for pair in cells for cell in pair))
    table.add_section()
    table.add_row("sum", *(cell for of in spent.values() for cell in (f"{sum(of.values()):.3f}", "")))
    table.add_row("unwatched", *(cell for seconds in whole.values() for cell in (f"{spread(seconds):.3f}", "")))
    multiplying = {name: sum(of[kind] for kind in PRODUCTS) for name, of in spent.items()}
    multiplied = {name: sum(p.flops * n for p, n in found[0].calls.items()) for name, found in watches.items()}
    rates = (f"{multiplied[name] / multiplying[name] / 1e9:.1f}" for name in spent)
    table.add_row("GFLOP/s of the multiplications", *(cell for rate in rates for cell in (rate, "")))

    flops = {name: found[0].flops for name, found in watches.items()}
    by_flop = ratio(*([each / flops[name] for each in seconds] for name, seconds in whole.items()))
    line = (
        f"By FLOP LXMERT takes × {by_flop:.2f}. If all but its multiplications cost this model nothing: "
        f"× {by_flop.median * sum(spent[OURS].values()) / multiplying[OURS]:.2f}"
    )
    return [table, line, *(_tabulate_products(name, found, rounds) for name, found in watches.items())]


def _tabulate_products(name: str, watches: list[Stopwatch], rounds: int) -> Table:
    calls = watches[0].calls
    spent = {product: median(watch.products[product] for watch in watches) for product in calls}
    largest = [p for p in sorted(spent, key=spent.__getitem__, reverse=True) if spent[p] > SHOWN * sum(spent.values())]
    works: dict[tuple[Product, str], Callable[[], object]] = {}
    for product in largest:
        works[product, MKL] = product.alone()
        if product.kind == FORWARD:
            works[product, ONEDNN] = product.by_onednn()
    alone = {key: median(cpu(turns)) / key[0].repetitions for key, turns in take_turns(works, rounds).items()}
    table = Table(
        "rows × inner × columns", "", "calls", "seconds", "GFLOP/s", "alone", "oneDNN",
        title=f"{name}: matrix multiplications", title_justify="left",
    )  # fmt: skip
    for product in largest:
        rates = [f"{product.flops / alone[product, by] / 1e9:.0f}" for by in (MKL, ONEDNN) if (product, by) in alone]
        table.add_row(
            f"{product.rows} × {product.inner} × {product.columns}",
            product.kind,
            f"{calls[product]}",
            f"{spent[product]:.3f}",
            f"{product.flops * calls[product] / spent[product] / 1e9:.0f}",
            *rates,
        )
    return table


# -------------------------------------------------------------------------------------------------------------- changes


@contextmanager
def _no_dropout_in_attention(model: nn.Module) -> Iterator[None]:
    """Removes dropout from attention, so that PyTorch can use its flash kernel, which has none on a CPU."""
    with ExitStack() as changes:
        for layer in model.modules():
            if isinstance(layer, MultiHeadAttention):
                changes.enter_context(patch.object(layer, "dropout", 0.0))
        yield


@contextmanager
def _no_dropout_and_no_flash(model: nn.Module) -> Iterator[None]:
    with _no_dropout_in_attention(model), sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def _no_dropout(model: nn.Module) -> Iterator[None]:
    with _no_dropout_in_attention(model), patch.object(nn.Dropout, "forward", lambda _, states: states):
        yield


@contextmanager
def _clipping(step: TrainingStep) -> Iterator[None]:
    def clip(*_: object) -> None:
        nn.utils.clip_grad_norm_(step.contestant.model.parameters(), 1.0)

    handle = step.optimizer.register_step_pre_hook(clip)
    yield
    handle.remove()


def _dropout_of_uniforms(layer: nn.Dropout, states: Tensor) -> Tensor:
    """Drops states by uniform numbers, which PyTorch draws faster on a CPU than Bernoulli numbers."""
    if not layer.training:
        return states
    return states * (torch.rand_like(states) >= layer.p) * (1 / (1 - layer.p))


def _stacked_projections(
    layer: MultiHeadAttention, states_BQD: Tensor, memory_BKE: Tensor, memory_mask_B11K: Tensor | None
) -> Tensor:
    """Computes queries, keys and values, or keys and values of the other stream, in one multiplication."""

    def together(linears: Sequence[nn.Linear], states: Tensor) -> tuple[Tensor, ...]:
        weight, bias = torch.cat([each.weight for each in linears]), torch.cat([each.bias for each in linears])
        return F.linear(states, weight, bias).chunk(len(linears), dim=2)

    if memory_BKE is states_BQD:
        projected = together((layer.query, layer.key, layer.value), states_BQD)
    else:
        projected = (layer.query(states_BQD), *together((layer.key, layer.value), memory_BKE))
    query, key, value = (layer._split_heads(each) for each in projected)
    dropout = layer.dropout if layer.training else 0.0
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=memory_mask_B11K, dropout_p=dropout)
    attended: Tensor = layer.output(context.transpose(1, 2).flatten(2))
    return attended


def _contiguous_heads(layer: MultiHeadAttention, projected_BLA: Tensor) -> Tensor:
    """Copies each head into one piece, so that multiplying by the transposed keys needs no copy of them."""
    samples, length, _ = projected_BLA.shape
    return projected_BLA.view(samples, length, layer.heads, -1).transpose(1, 2).contiguous()


def _tabulate_changes(step: TrainingStep, rounds: int, compiled: bool) -> Table:
    model: Any = step.contestant.model
    changes: dict[str, Change] = {
        "as it is": nullcontext,
        "no dropout in attention: flash kernel": partial(_no_dropout_in_attention, model),
        "no dropout in attention, no flash kernel": partial(_no_dropout_and_no_flash, model),
        "no dropout at all: flash kernel": partial(_no_dropout, model),
        "dropout from uniform numbers": partial(patch.object, nn.Dropout, "forward", _dropout_of_uniforms),
        "stacked projections": partial(patch.object, MultiHeadAttention, "forward", _stacked_projections),
        "heads in one piece": partial(patch.object, MultiHeadAttention, "_split_heads", _contiguous_heads),
        "gradients clipped": partial(_clipping, step),
    }
    _check_equal(step, changes)
    if compiled:
        forward = torch.compile(model.ernie_vil.forward, dynamic=True)
        changes["encoder compiled"] = partial(patch.object, model.ernie_vil, "forward", forward)
    works = {name: partial(step, change) for name, change in changes.items()}
    seconds = {name: cpu(turns) for name, turns in take_turns(works, rounds).items()}
    table = Table("this model", "seconds of a step", "as fast", title="Changes", title_justify="left")
    for name, of_change in seconds.items():
        table.add_row(name, f"{spread(of_change):.2f}", f"× {ratio(of_change, seconds['as it is']):.3f}")
    return table


@torch.no_grad()
def _check_equal(step: TrainingStep, changes: Mapping[str, Change]) -> None:
    """Raises AssertionError if a change gives another loss than the unchanged model, without dropout."""
    step.contestant.model.eval()
    expected = step.contestant.loss().item()
    for name, change in changes.items():
        with change():
            found = step.contestant.loss().item()
        if abs(found / expected - 1) > 1e-5:
            raise AssertionError(f"{name}: a loss of {found} instead of {expected}")


if __name__ == "__main__":
    run(app)
