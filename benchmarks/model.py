"""The model's speed and memory beside the released way to compute it and beside LXMERT.

``python -m benchmarks.model`` times forward passes and training steps (forward, losses, backward, AdamW) and a large
matrix multiplication, in turns. Float32, one thread and seconds of the CPU; on a GPU bfloat16 and the wall clock.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import LxmertConfig, LxmertForPreTraining

from benchmarks.results import Comparison, compare, publish
from benchmarks.turns import ROUNDS, Out, Rounds, cpu, machine, ratio, spread, take_turns, wall
from parsers.command import run
from parsers.device import choose_device
from pretrain.model.attention import AttentionLayer, MultiHeadAttention
from pretrain.model.config import ModelConfig
from pretrain.model.heads import ErnieViLForPreTraining, PretrainingOutput

ModelSize = Annotated[str, typer.Option("--size", help="Size of our model.")]
Pairs = Annotated[int, typer.Option("--batch-size", min=2, help="Pairs of a batch.")]
TextPositions = Annotated[int, typer.Option(min=4, help="Text positions of a pair.")]
ImageRows = Annotated[int, typer.Option(min=4, help="Image rows of a pair.")]
OURS, RELEASED, LXMERT = "this model", "as released", "LXMERT"
app = typer.Typer(add_completion=False)


# --------------------------------------------------------------------------------------------------------- contestants


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """The size of a batch, of which a quarter of the samples is shorter by a quarter."""

    batch: int
    text: int
    rows: int


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A model with its batch."""

    model: nn.Module
    loss: Callable[[], Tensor]
    """runs the forward pass and returns the sum of all losses"""


class UnfusedAttention(nn.Module):
    """The released computation with the same weights: scores, an additive mask of -10000, softmax, dropout, values."""

    def __init__(self, attention: MultiHeadAttention) -> None:
        super().__init__()
        self.fused = attention

    def forward(self, states_BQD: Tensor, memory_BKE: Tensor, memory_mask_B11K: Tensor) -> Tensor:
        """Return what each query position gathers from the memory, float [B, Q, D]."""
        query_BQA, key_BKA, value_BKA = (
            self.fused.query(states_BQD), self.fused.key(memory_BKE), self.fused.value(memory_BKE)
        )  # fmt: skip
        head_width = query_BQA.shape[2] // self.fused.heads
        query_BHQd, key_BHKd, value_BHKd = (
            projected.unflatten(2, (self.fused.heads, head_width)).transpose(1, 2)
            for projected in (query_BQA * head_width**-0.5, key_BKA, value_BKA)
        )
        bias_B11K = (memory_mask_B11K.to(states_BQD.dtype) - 1) * 10000
        weights_BHQK = (query_BHQd @ key_BHKd.transpose(2, 3) + bias_B11K).softmax(-1)
        weights_BHQK = F.dropout(weights_BHQK, self.fused.dropout, self.training)
        attended_BQD: Tensor = self.fused.output((weights_BHQK @ value_BHKd).transpose(1, 2).flatten(2))
        return attended_BQD


class ReleasedErnieViL(ErnieViLForPreTraining):
    """The model with unfused attention, which computes the logits of every position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        for layer in self.modules():
            if isinstance(layer, AttentionLayer):
                layer.register_module("attention", UnfusedAttention(layer.attention))

    def forward(self, *, text_targets: Tensor, region_targets: Tensor, **inputs: Tensor | None) -> PretrainingOutput:
        """Predicts like `ErnieViLForPreTraining`, but picks the targets from the logits, not from the states."""
        encoded = self.ernie_vil(**inputs)
        output: PretrainingOutput = self.heads(
            text_states=encoded.text.flatten(0, 1),
            region_states=encoded.image.flatten(0, 1),
            pooled_text=encoded.pooled_text,
            pooled_image=encoded.pooled_image,
            word_embedding=self.ernie_vil.text_embeddings.word.weight,
            token_states=encoded.text[:0, 0],
        )
        return dataclasses.replace(
            output,
            vocabulary_logits=output.vocabulary_logits[text_targets],
            regions=output.regions[region_targets],
        )


def make(name: str, config: ModelConfig, size: BatchShape, device: torch.device) -> Contestant:
    """Makes a contestant. This model and the released one have the same weights; all get the same batch."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if name == LXMERT:
        lxmert = LxmertConfig(visual_feat_dim=config.v_feature_size, task_qa=False, num_qa_labels=2)
        model: nn.Module = LxmertForPreTraining(lxmert)
    else:
        model = (ErnieViLForPreTraining if name == OURS else ReleasedErnieViL)(config)
    model.to(device, dtype)
    batch = {n: t.to(device) for n, t in _batch(config, size).items()}
    features = batch["features"].to(dtype)
    locations = batch["locations"].to(dtype)
    words, classes = batch["words"], batch["classes"]
    word_targets, class_targets = (words >= 0).flatten().nonzero()[:, 0], (classes >= 0).flatten().nonzero()[:, 0]

    def ernie_vil_loss() -> Tensor:
        output: PretrainingOutput = model(
            token_ids=batch["token_ids"],
            position_ids=batch["position_ids"],
            segment_ids=torch.zeros_like(batch["token_ids"]),
            text_mask=batch["text_mask"],
            features=features,
            locations=locations,
            image_mask=batch["image_mask"],
            text_targets=word_targets,
            region_targets=class_targets,
        )
        return (
            F.cross_entropy(output.vocabulary_logits.float(), words[words >= 0])
            + F.cross_entropy(output.regions.float(), classes[classes >= 0])
            + F.binary_cross_entropy_with_logits(output.match_logits.float(), batch["matched"].float())
        )

    def lxmert_loss() -> Tensor:
        masked = (classes >= 0).to(dtype)
        loss: Tensor = model(
            input_ids=batch["token_ids"],
            visual_feats=features,
            visual_pos=locations[..., :4],
            attention_mask=batch["text_mask"].long(),
            visual_attention_mask=batch["image_mask"].long(),
            labels=words,
            obj_labels={
                "obj": (classes.clamp(min=0), masked),
                "attr": (classes.clamp(min=0) % 400, masked),
                "feat": (features, masked),
            },
            matched_label=batch["matched"],
        ).loss
        return loss

    return Contestant(model, lxmert_loss if name == LXMERT else ernie_vil_loss)


def _batch(config: ModelConfig, size: BatchShape) -> dict[str, Tensor]:
    """Draws pairs. A sixth of the words and of the regions is to be predicted; the others have the label -100."""
    short = torch.arange(size.batch) % 4 == 3
    token_ids = torch.randint(1000, config.vocab_size, (size.batch, size.text))
    text_mask, image_mask = (
        torch.arange(length) < torch.where(short, length * 3 // 4, length)[:, None] for length in (size.text, size.rows)
    )
    classes = torch.randint(0, 1600, (size.batch, size.rows))
    return {
        "token_ids": token_ids,
        "position_ids": torch.arange(size.text).expand(size.batch, -1),
        "text_mask": text_mask,
        "features": torch.randn(size.batch, size.rows, config.v_feature_size).relu(),
        "locations": torch.rand(size.batch, size.rows, 5),
        "image_mask": image_mask,
        "words": token_ids.where(text_mask & (torch.arange(size.text) % 6 == 3), -100),
        "classes": classes.where(image_mask & (torch.arange(size.rows) % 6 == 3), -100),
        "matched": torch.arange(size.batch) % 2,
    }


def make_optimizer(contestant: Contestant) -> torch.optim.Optimizer:
    """Makes an AdamW that updates all parameters in one operation."""
    return torch.optim.AdamW(contestant.model.parameters(), lr=1e-5, fused=True)


def step(contestant: Contestant, optimizer: torch.optim.Optimizer) -> None:
    """Takes a training step."""
    contestant.model.train()
    torch.autograd.backward(contestant.loss())
    optimizer.step()
    optimizer.zero_grad()


# -------------------------------------------------------------------------------------------------------------- figures


@dataclasses.dataclass
class Figures:
    """The measurements of one contestant."""

    forward_flops: int = 0
    step_flops: int = 0
    forward: list[float] = dataclasses.field(default_factory=list)
    """seconds of a forward pass, by round"""
    step: list[float] = dataclasses.field(default_factory=list)
    memory: int = 0
    """bytes that the forward and backward pass take beside the weights: activations and gradients"""
    gradients: int = 0
    """bytes of the gradients"""


@app.command(epilog="Example: python -m benchmarks.model --size base --rounds 5")
def main(
    config: ModelSize = "base",
    batch: Pairs = 16,
    text: TextPositions = 20,
    rows: ImageRows = 37,
    rounds: Rounds = ROUNDS,
    out: Out = None,
    memory_of: Annotated[str | None, typer.Option(hidden=True, help="Only this, in a process of its own.")] = None,
) -> None:
    """Time the model."""
    size, model_config = BatchShape(batch, text, rows), ModelConfig.of_size(config)
    device = choose_device()
    torch.set_num_threads(1)
    if memory_of is not None:
        print(_memory(make(memory_of, model_config, size, device), device))
        return
    contestants = {name: make(name, model_config, size, device) for name in (OURS, RELEASED, LXMERT)}
    _check_equal(contestants[OURS], contestants[RELEASED])
    figures = {name: _count(contestant) for name, contestant in contestants.items()}
    for name in figures:
        command = [sys.executable, "-m", "benchmarks.model", *sys.argv[1:], "--memory-of", name]
        # The allocator's default settings, with which freed memory is given back and can be told from used memory.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        figures[name].memory = int(done.stdout.split()[-1])
    rate = _time(contestants, figures, rounds, device)
    title = f"{config}, {batch} pairs of {text} word pieces and {rows} image rows"
    publish(_tabulate(figures, rate, device, title), list(_compare(figures, device)), out)


@torch.no_grad()
def _check_equal(ours: Contestant, released: Contestant) -> None:
    losses = [contestant.loss().item() for contestant in (ours, released) if contestant.model.eval()]
    if abs(losses[0] / losses[1] - 1) > (1e-2 if next(ours.model.parameters()).dtype == torch.bfloat16 else 1e-5):
        raise AssertionError(f"the same weights give different losses: {losses}")


def _count(contestant: Contestant) -> Figures:
    """Counts the multiplications and additions that are computed, even of logits that nobody needs."""
    contestant.model.train()
    with FlopCounterMode(display=False) as counter:
        loss = contestant.loss()
        forward = counter.get_total_flops()
        torch.autograd.backward(loss)
    contestant.model.zero_grad()
    gradients = sum(p.numel() * p.element_size() for p in contestant.model.parameters())
    return Figures(forward_flops=forward, step_flops=counter.get_total_flops(), gradients=gradients)


def _memory(contestant: Contestant, device: torch.device) -> int:
    contestant.model.train()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.autograd.backward(contestant.loss())
        return torch.cuda.max_memory_allocated() - before
    before = _resident("VmRSS")
    torch.autograd.backward(contestant.loss())
    return _resident("VmHWM") - before


def _resident(which: str) -> int:
    """Returns the bytes in memory: now (VmRSS), or the most so far (VmHWM)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[which].split()[0]) * 1024


def _time(contestants: dict[str, Contestant], figures: dict[str, Figures], rounds: int, device: torch.device) -> float:
    """Adds the times to the figures; returns the rate of matrix multiplication (FLOP/s)."""
    optimizers = {name: make_optimizer(contestant) for name, contestant in contestants.items()}

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    def forward(contestant: Contestant) -> None:
        contestant.model.eval()
        with torch.no_grad():
            contestant.loss()
        wait()

    def train(contestant: Contestant, optimizer: torch.optim.Optimizer) -> None:
        step(contestant, optimizer)
        wait()

    def multiply() -> None:
        for _ in range(3):
            torch.mm(matrix, matrix, out=product)
        wait()

    order = 8192 if device.type == "cuda" else 2048
    matrix = torch.randn(order, order, device=device, dtype=next(contestants[OURS].model.parameters()).dtype)
    product = torch.empty_like(matrix)
    works: dict[tuple[str, str], Callable[[], object]] = {("multiply", ""): multiply}
    for name, contestant in contestants.items():
        works["forward", name] = partial(forward, contestant)
    for name, contestant in contestants.items():
        works["step", name] = partial(train, contestant, optimizers[name])
    clock = wall if device.type == "cuda" else cpu
    seconds = {what: clock(turns) for what, turns in take_turns(works, rounds).items()}
    for name, found in figures.items():
        found.forward, found.step = seconds["forward", name], seconds["step", name]
    return 3 * 2 * order**3 / spread(seconds["multiply", ""]).median


def _compare(figures: dict[str, Figures], device: torch.device) -> Iterator[Comparison]:
    ours, clock = figures[OURS], "wall" if device.type == "cuda" else "CPU"
    for what, name in (("forward", "forward pass"), ("step", "training step")):
        yield compare(
            f"{name} of the model",
            "the released computation",
            getattr(ours, what),
            getattr(figures[RELEASED], what),
            clock=clock,
            fair="the same weights, batch and losses, computed as the released Paddle code does: scores, an additive "
            "mask, softmax, values; logits of every position. It runs in PyTorch, so that the libraries are the "
            "same. Both losses are checked to be equal before anything is timed.",
        )
        seconds = [
            [value / getattr(found, f"{what}_flops") * 1e12 for value in getattr(found, what)]
            for found in (ours, figures[LXMERT])
        ]
        yield compare(
            f"{name} of the model, by FLOP",
            f"LXMERT of transformers {version('transformers')}",
            *seconds,
            clock=clock,
            unit="s a TFLOP",
            fair="another two-stream model of about the same size, with the same batch. It has other layers, so the "
            "seconds are divided by the operations that each really computes.",
        )


def _tabulate(figures: dict[str, Figures], rate: float, device: torch.device, title: str) -> list[Table | str]:
    """Tabulates the figures. A ratio is the contestant's time or memory divided by that of this model."""
    place = torch.cuda.get_device_name() if device.type == "cuda" else f"{machine()}, one thread"
    tables: list[Table | str] = [f"{title}; {place}; matrix multiplication {rate / 1e9:,.0f} GFLOP/s"]
    ours = figures[OURS]
    for what, headline in (("forward", "Forward pass"), ("step", "Training step")):
        table = Table("", "GFLOP", "seconds", "of matmul", "time", "by FLOP", title=headline, title_justify="left")
        for name, found in figures.items():
            flops, seconds = getattr(found, f"{what}_flops"), getattr(found, what)
            our_flops, our_seconds = getattr(ours, f"{what}_flops"), getattr(ours, what)
            times = ratio(our_seconds, seconds)
            by_flop = ratio([each / our_flops for each in our_seconds], [each / flops for each in seconds])
            table.add_row(
                name,
                f"{flops / 1e9:,.0f}",
                f"{spread(seconds).median:.3f}",
                f"{flops / spread(seconds).median / rate:.0%}",
                f"× {times:.2f}",
                f"× {by_flop:.2f}",
            )
        tables.append(table)
    table = Table(
        "", "MB", "", "without gradients", "", title="Memory of a step beside the weights", title_justify="left"
    )
    for name, found in figures.items():
        row = [name]
        for theirs, here in (
            (found.memory, ours.memory),
            (found.memory - found.gradients, ours.memory - ours.gradients),
        ):
            row += [f"{theirs / 1e6:,.0f}", f"× {theirs / here:.2f}"]
        table.add_row(*row)
    return [*tables, table]


if __name__ == "__main__":
    run(app)
