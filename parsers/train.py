"""Trains the neural parser: ``python -m parsers.train --data train_id.csv --dev dev.csv --out DIR``.

Several teachers learn the gold graphs: networks like the one to be shipped, but wider, and, if one is given, a
pretrained transformer. The student learns what they think together of the training captions beside the gold graphs, and
of captions without gold graphs beside the graphs that the rules of `parsers.dependency` find: gold captions are short,
and the rules read long ones better. Pairs of gold captions are joined into longer ones. Weights are averaged over the
last steps.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import parsers
from parsers.evaluate import evaluate
from parsers.gold import GoldCaption, read_gold
from parsers.neural.alignment import Aligner, align_graph
from parsers.neural.learning import Example, batches, collate, distillation_loss, joined, loss, make_labels, usable
from parsers.neural.network import Labels, Network, Scores, WordEncoder, mean_scores
from parsers.neural.parser import NeuralParser, save
from parsers.neural.pretrained import PretrainedEncoder
from parsers.neural.words import Words, split
from parsers.scoring import Lemmatizer, installed_synonyms

BATCH = 48
WARM_UP = 300
AVERAGED = 0.998
CLIP = 5.0
TEACHER_WIDTH = 144
GOLD_SHARE, RULES_SHARE = 0.3, 0.5
"""How much a gold graph, and a graph by rules, counts beside what the teachers think of its caption."""
JOINED_SHARE = 0.3
JOINTS = ("and", ".", ",", "while", "with", "as", ";")
LONGEST = 40
"""Words of the longest caption that is learned from."""
console = Console(highlight=False)
app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: python -m parsers.train --data factual/train_id.csv --dev factual/dev.csv "
    "--unlabelled captions.txt --out parsers/neural/model"
)
def main(
    data: Annotated[Path, typer.Option(help="Gold graphs to learn (FACTUAL CSV, best the one with ids).")],
    dev: Annotated[Path, typer.Option(help="Gold graphs to score the parser on.")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    unlabelled: Annotated[Path | None, typer.Option(help="Captions for the teachers to read, one a line.")] = None,
    pretrained: Annotated[Path | None, typer.Option(help="Folder of a BERT, for one more teacher.")] = None,
    teachers: Annotated[int, typer.Option(min=0, help="How many wide teachers.")] = 3,
    teacher_epochs: Annotated[int, typer.Option(min=1)] = 9,
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    width: Annotated[int, typer.Option(min=8, help="Of the student's word vectors and LSTM directions.")] = 96,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Teachers that learn at the same time.")] = 1,
) -> None:
    """Train the neural parser."""
    try:
        examples, captions = _aligned(read_gold(data)), read_gold(dev)
    except (OSError, ValueError) as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {error}")
        sys.exit(1)
    labels = make_labels(examples)
    console.print(
        f"{len(examples):,} captions; {len(labels.words):,} words, {len(labels.edits)} edits, "
        f"{len(labels.relations)} whole relation labels"
    )
    folder = out / "teachers"
    jobs = [(f"wide-{number}", 1000 + number) for number in range(teachers)]
    if pretrained is not None:
        jobs.insert(0, ("pretrained", 1000))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        running = [
            pool.submit(_train_teacher, name, number, examples, labels, pretrained, folder, teacher_epochs)
            for name, number in jobs
            if not (folder / f"{name}.pt").exists()
        ]
        for job in running:
            console.print(job.result())
    taught = [_load_teacher(folder / f"{name}.pt", labels, pretrained) for name, _ in jobs]
    ruled = [] if unlabelled is None else _read_by_rules(unlabelled)
    report = _train_student(examples, ruled, taught, labels, captions, out, width=width, epochs=epochs, seed=seed)
    (out / "scores.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _aligned(gold: Iterable[GoldCaption]) -> list[Example]:
    align = Aligner(Lemmatizer())
    examples = [Example(words, align(words, caption.triples)) for caption in gold for words in [split(caption.caption)]]
    return [example for example in usable(examples) if len(example.words) <= LONGEST]


def _read_by_rules(path: Path) -> list[Example]:
    """Captions without gold graphs, as the rules read them."""
    captions = list(dict.fromkeys(line.strip() for line in path.read_text(encoding="utf-8").splitlines()))
    started = time.monotonic()
    graphs = parsers.get("dependency").parse(captions)
    console.print(f"{len(captions):,} captions read by rules in {time.monotonic() - started:.0f} s")
    examples = [Example(words, align_graph(words, g)) for g in graphs for words in [split(g.caption)]]
    return [example for example in examples if 1 <= len(example.words) <= LONGEST]


def _joined(examples: Sequence[Example], count: int, rng: np.random.Generator) -> list[Example]:
    """Longer captions, made of pairs."""
    pairs = rng.integers(len(examples), size=(count, 2)).tolist()
    joints = rng.integers(len(JOINTS), size=count).tolist()
    return [joined(examples[a], JOINTS[j], examples[b]) for (a, b), j in zip(pairs, joints, strict=True)]


# ------------------------------------------------------------------------------------------------------------ learning


def _optimise(
    network: Network, batches: Callable[[int], Iterator[torch.Tensor]], epochs: int, steps: int, rate: float
) -> Iterator[tuple[int, float, Network]]:
    """Trains; yields after each epoch its number, its mean loss and the network with averaged weights.

    Args:
        batches: an epoch's losses, each computed when it is asked for.
        steps: losses in an epoch.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGED))  # type: ignore[no-untyped-call]
    step, total = 0, epochs * steps
    for epoch in range(epochs):
        network.train()
        losses = []
        for value in batches(epoch):
            for group in optimizer.param_groups:
                group["lr"] = rate * min((step + 1) / WARM_UP, max(0.0, (total - step) / total))
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            averaged.update_parameters(network)
            losses.append(value.item())
            step += 1
        module = averaged.module.eval()
        assert isinstance(module, Network)
        yield epoch, float(np.mean(losses)), module


def _new_teacher(name: str, labels: Labels, pretrained: Path | None) -> Network:
    if name == "pretrained":
        assert pretrained is not None
        return Network(PretrainedEncoder(pretrained), labels, arc=96, dropout=0.2)
    return Network(WordEncoder(labels.words, width=TEACHER_WIDTH, dropout=0.4, forgotten=0.15), labels, arc=64)


def _train_teacher(
    name: str, seed: int, examples: list[Example], labels: Labels, pretrained: Path | None, folder: Path, epochs: int
) -> str:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    started = time.monotonic()
    network = _new_teacher(name, labels, pretrained)
    rng = np.random.default_rng(seed)
    rate = 2e-3
    if name == "pretrained":
        rate, epochs = 2e-4, max(1, epochs // 3)
    steps = sum(1 for _ in batches(examples, BATCH, np.random.default_rng(0)))

    def losses(_epoch: int) -> Iterator[torch.Tensor]:
        for batch in batches(examples, BATCH, rng):
            scores = network(*network.inputs([example.words for example in batch]))
            yield loss(scores, collate(batch, labels), torch.ones(len(batch))) / len(batch)

    folder.mkdir(parents=True, exist_ok=True)
    temporary, mean = folder / f"{name}.pt.tmp", 0.0
    for epoch, mean, averaged in _optimise(network, losses, epochs, steps, rate):
        torch.save(averaged.state_dict(), temporary)
        print(f"{name}: epoch {epoch + 1} of {epochs}, loss {mean:.2f}", flush=True)
    temporary.replace(folder / f"{name}.pt")
    return f"teacher {name}: loss {mean:.2f}, {time.monotonic() - started:.0f} s"


def _load_teacher(path: Path, labels: Labels, pretrained: Path | None) -> Network:
    network = _new_teacher(path.stem, labels, pretrained)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def _train_student(
    gold: list[Example], ruled: list[Example], teachers: Sequence[Network], labels: Labels,
    dev: Sequence[GoldCaption], out: Path, *, width: int, epochs: int, seed: int,
) -> dict[str, object]:  # fmt: skip
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    lemmatizer, synonyms = Lemmatizer(), installed_synonyms()
    labels = _with_words(labels, [example.words for example in ruled])
    student = Network(WordEncoder(labels.words, width=width, dropout=0.25), labels)
    taught = _read_by_teachers([*gold, *ruled], teachers) if teachers else {}
    # How much an example's own graph counts; the rest is the teachers'.
    share = dict.fromkeys(map(id, gold), GOLD_SHARE) | dict.fromkeys(map(id, ruled), RULES_SHARE)
    steps = sum(1 for _ in batches([*gold, *ruled], BATCH, rng)) + len(gold) * JOINED_SHARE // BATCH

    def losses(_epoch: int) -> Iterator[torch.Tensor]:
        longer = _joined(gold, int(len(gold) * JOINED_SHARE), rng)
        for batch in batches([*gold, *ruled, *longer], BATCH, rng):
            scores = student(*student.inputs([example.words for example in batch]))
            known = [i for i, example in enumerate(batch) if id(example) in taught]
            own = torch.tensor([share[id(example)] if id(example) in taught else 1.0 for example in batch])
            value = loss(scores, collate(batch, labels), own)
            if known:
                several = (taught[id(batch[i])] for i in known)
                together = Scores(*(torch.stack(tensors).float() for tensors in zip(*several, strict=True)))
                value = value + distillation_loss(Scores(*(t[known] for t in scores)), together, 1 - own[known])
            yield value / len(batch)

    report: dict[str, object] = {}
    for epoch, mean, averaged in _optimise(student, losses, epochs, int(steps), 2e-3):
        save(averaged, out)
        graphs = NeuralParser(out).parse([caption.caption for caption in dev])
        result = evaluate(graphs, dev, lemmatizer, synonyms)
        report = {"epoch": epoch + 1, "loss": mean, **result.to_dict()}
        console.print(
            f"student: epoch {epoch + 1} of {epochs}, loss {mean:.2f}, SPICE {result.spice:.2%}, "
            f"Set Match {result.set_match:.2%}; long: {result.long_spice:.2%}, {result.long_set_match:.2%}"
        )
    return report


def _with_words(labels: Labels, others: Iterable[Words]) -> Labels:
    """The student also knows the words that occur often in captions without gold graphs."""
    counts: dict[str, int] = {}
    for words in others:
        for form in words.forms:
            counts[form] = counts.get(form, 0) + 1
    known = set(labels.words)
    new = sorted(form for form, n in counts.items() if n >= 3 and form not in known and form.isalpha())
    return Labels((*labels.words, *new), labels.edits, labels.relations)


@torch.inference_mode()
def _read_by_teachers(pool: Sequence[Example], teachers: Sequence[Network]) -> dict[int, Scores]:
    """What the teachers think of each caption, in float16."""
    found = {}
    started = time.monotonic()
    for batch in batches(pool, 256, np.random.default_rng(0)):
        words = [example.words for example in batch]
        together = mean_scores([teacher(*teacher.inputs(words)) for teacher in teachers])
        halves = Scores(*(tensor.half() for tensor in together))
        for i, example in enumerate(batch):
            found[id(example)] = Scores(*(tensor[i].clone() for tensor in halves))
    console.print(f"{len(found):,} captions read by {len(teachers)} teachers in {time.monotonic() - started:.0f} s")
    return found


if __name__ == "__main__":
    app()
