"""How the neural parser learns; `parsers.train` is the command.

The network learns gold graphs, and, of captions that have none, the graphs that the rules of `parsers.dependency`
find: gold captions are short, and the rules read long ones better. Pairs of gold captions are joined into longer ones,
so that far words are not tied together. Weights are averaged over the last steps.

With ``--pretrained`` the network also learns what teachers say: fine-tuned BERTs or MPNets (knowledge distillation,
arXiv 1503.02531; of BERT into an LSTM, arXiv 1903.12136). They read the gold captions, those without graphs, and gold
captions into which phrases of others were put. In the end it learns from gold graphs and teachers alone, and the
weights before and after that are averaged.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from spacy.lang.en.stop_words import STOP_WORDS
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import parsers
from parsers.command import InputError, say
from parsers.evaluate.evaluation import ParserScores, score_graphs
from parsers.evaluate.synonyms import find_synonyms
from parsers.gold import GoldCaption, read_gold
from parsers.lemmatizer import Lemmatizer
from parsers.neural.network import Labels, Network, Scores, WordEncoder
from parsers.neural.parser import NeuralParser, load, save
from parsers.neural.pieces import PieceEncoder
from parsers.neural.spelling import Speller, lookalikes
from parsers.neural.words import split
from parsers.train.alignment import Aligner, align_graph
from parsers.train.augmentation import joined, spliced
from parsers.train.learning import (
    FREQUENT,
    LEAST_WORD,
    Example,
    batches,
    graph_targets,
    loss,
    make_labels,
    taught_targets,
    teach,
    usable,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network learns."""

    epochs: int
    batch: int
    rate: float
    encoder_rate: float
    joined: float
    """joined pairs for each gold caption"""
    last: float = 0.0
    """share of the rate that is left at the end; it falls evenly"""
    averaged: float = 0.998
    """how much of the averaged weights is kept at a step"""
    dropout: float = 0.33
    """of what the scores are made from, and in a small network of its word vectors and between its layers"""


FROM_SCRATCH = Recipe(epochs=10, batch=48, rate=2e-3, encoder_rate=2e-3, joined=0.3)
FROM_PRETRAINED = Recipe(epochs=3, batch=64, rate=1e-3, encoder_rate=6e-5, joined=0.1, last=0.03, averaged=0.995)
FROM_TEACHERS = Recipe(epochs=6, batch=96, rate=3e-3, encoder_rate=3e-3, joined=0.2, dropout=0.1)
WITHOUT_RULES = replace(FROM_TEACHERS, epochs=2, rate=1e-3, encoder_rate=1e-3)
SPLICED = 2
"""How many captions with a phrase of another are made of each gold one."""
WARM_UP = 300
CLIP = 5.0
RULES_WEIGHT = 0.2
"""How much a graph by rules counts beside a gold one."""
JOINTS = ("and", ".", ",", "while", "with", "as", ";")
LONGEST = 40
"""Words of the longest caption that is learned from."""
THREADS = torch.get_num_threads()
REPORT = "scores.json"
"""Written last: a folder that holds it holds a trained network."""
_lemmatizer, _synonyms = cache(Lemmatizer), cache(find_synonyms)


def train_parser(
    data: Path, dev: Path, out: Path, unlabelled: Path | None, pretrained: Sequence[Path], teachers: Path, width: int,
    seed: int,
) -> None:  # fmt: skip
    """Trains the parser that the options of `parsers.train` describe, and says on the console how it goes."""
    try:
        gold, scored = read_gold(data), read_gold(dev)
        others = [] if unlabelled is None else unlabelled.read_text(encoding="utf-8").splitlines()
        encoders = [PieceEncoder.from_pretrained(folder) for folder in pretrained]
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    knows = partial(_knows, _lemmatizer(), encoders)
    similar, respell = _spelling(gold, knows)
    examples, ruled = _aligned(gold, respell), _read_by_rules(others, respell)
    labels = make_labels(examples, ruled, similar)
    say(
        f"{len(examples):,} of {len(gold):,} gold captions could be aligned; {len(labels.words):,} words, "
        f"{len(labels.edits)} edits, {len(labels.relations)} whole relation labels",
    )

    def train(network: Network, learned: Sequence[Example], recipe: Recipe, rng: np.random.Generator, to: Path) -> None:
        say(f"training {to} on {len(learned):,} captions")
        _train(network, learned, examples, scored, to, recipe, rng)

    folders = [teachers / f"pretrained-{i}" for i in range(len(encoders))]
    found = {folder: load(folder) for folder in folders if (folder / REPORT).is_file()}
    for encoder, folder in zip(encoders, folders, strict=True):
        if folder in found and not _is_teacher(found[folder], encoder, labels):
            raise InputError(
                f"{folder}: a teacher of other gold graphs or another model; delete it, or name others with --teachers"
            )
    for i, (encoder, folder) in enumerate(zip(encoders, folders, strict=True)):
        if folder not in found:
            torch.manual_seed(i)
            network = Network(encoder, labels, dropout=FROM_PRETRAINED.dropout)
            train(network, examples, FROM_PRETRAINED, np.random.default_rng(i), folder)
            found[folder] = load(folder)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    recipe = FROM_TEACHERS if encoders else FROM_SCRATCH
    small = WordEncoder(labels.words, width=width, dropout=recipe.dropout)
    network = Network(small, labels, dropout=recipe.dropout)
    if not encoders:
        train(network, [*examples, *ruled], recipe, rng, out)
        return
    small.start_from(encoders[0].word_vectors(labels.words, width))
    said = {word for caption in gold for triple in caption.triples for part in triple for word in part.split()}
    learned = _taught(
        [*examples, *ruled, *_spliced(examples)],
        [found[folder] for folder in folders],
        lambda form: form in said or knows(form),
    )
    train(network, learned, recipe, rng, out)
    mean = AveragedModel(load(out))
    mean.update_parameters(mean.module)
    without_rules = [replace(example, graph=None, weight=0.0) if example.weight < 1 else example for example in learned]
    train(network, without_rules, WITHOUT_RULES, rng, out)
    mean.update_parameters(load(out))
    say("the weights before and after that, averaged:")
    assert isinstance(mean.module, Network)
    _write_report(_save_and_score(mean.module, scored, out).to_dict(), out)


def _is_teacher(network: Network, encoder: PieceEncoder, labels: Labels) -> bool:
    """Whether the network stands on such an encoder, and means the same with its numbers."""
    names = (network.labels.edits, network.labels.relations)
    return names == (labels.edits, labels.relations) and network.encoder.config == encoder.config


def _knows(lemmatizer: Lemmatizer, encoders: Sequence[PieceEncoder], form: str) -> bool:
    """Whether it is a word of WordNet, a function word or a whole piece of a pretrained model."""
    return lemmatizer.knows(form) or form in STOP_WORDS or any(encoder.knows(form) for encoder in encoders)


def _spelling(gold: Sequence[GoldCaption], is_word: Callable[[str], bool]) -> tuple[list[str], Speller]:
    """Words that look like slips and are none, and what repairs slips."""
    counts = Counter(form for caption in gold for form in split(caption.caption).forms)
    known = [form for form, count in counts.items() if count >= LEAST_WORD]
    frequent = [form for form, count in counts.most_common() if count >= FREQUENT]
    similar = [form for form in lookalikes(frequent, is_word) if counts[form] < LEAST_WORD]
    return similar, Speller([*known, *similar], frequent)


def _aligned(gold: Sequence[GoldCaption], respell: Speller) -> list[Example]:
    align = Aligner(_lemmatizer())
    words = [respell(split(caption.caption)) for caption in gold]
    examples = [Example(w, align(w, caption.triples)) for w, caption in zip(words, gold, strict=True)]
    return [example for example in usable(examples) if len(example.words) <= LONGEST]


def _read_by_rules(lines: Sequence[str], respell: Speller) -> list[Example]:
    """Captions without gold graphs, as the rules read them."""
    captions = list(dict.fromkeys(filter(None, (" ".join(line.split()) for line in lines))))
    graphs = parsers.get("dependency").parse(captions) if captions else []
    examples = [
        Example(words, align_graph(words, g), RULES_WEIGHT) for g in graphs for words in [respell(split(g.caption))]
    ]
    return [example for example in examples if 1 <= len(example.words) <= LONGEST]


def _spliced(examples: Sequence[Example]) -> list[Example]:
    """`SPLICED` times as many captions, each with a phrase of another."""
    found = []
    for seed in range(SPLICED):
        rng = np.random.default_rng(seed)
        others = rng.permutation(len(examples)).tolist()
        found += [spliced(example, examples[i], rng) for example, i in zip(examples, others, strict=True)]
    return [example for example in found if 1 <= len(example.words) <= LONGEST]


def _taught(examples: Sequence[Example], teachers: Sequence[Network], is_word: Callable[[str], bool]) -> list[Example]:
    torch.set_num_threads(THREADS)  # whatever was trained before, the teachers say the same
    started = time.monotonic()
    taught = teach(examples, teachers, is_word)
    say(f"the teachers read {len(examples):,} captions in {time.monotonic() - started:.0f} s")
    return taught


def _joined(examples: Sequence[Example], share: float, rng: np.random.Generator) -> list[Example]:
    """Longer captions, made of pairs."""
    count = int(share * len(examples))
    pairs = rng.integers(len(examples), size=(count, 2)).tolist()
    joints = rng.integers(len(JOINTS), size=count).tolist()
    return [joined(examples[a], JOINTS[j], examples[b]) for (a, b), j in zip(pairs, joints, strict=True)]


# ------------------------------------------------------------------------------------------------------------ learning


def _train(
    network: Network, learned: Sequence[Example], gold: Sequence[Example], dev: Sequence[GoldCaption], out: Path,
    recipe: Recipe, rng: np.random.Generator,
) -> None:  # fmt: skip
    # In a small network several threads would wait for each other.
    torch.set_num_threads(1 if isinstance(network.encoder, WordEncoder) else THREADS)
    optimizer = torch.optim.AdamW(_rates(network, recipe), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaged))  # type: ignore[no-untyped-call]
    step = 0
    report: dict[str, object] = {}
    for epoch in range(recipe.epochs):
        started = time.monotonic()
        network.train()
        pool = list(batches([*learned, *_joined(gold, recipe.joined, rng)], recipe.batch, rng))
        losses = []
        for done, batch in enumerate(pool):
            left = 1 - (1 - recipe.last) * (epoch + done / len(pool)) / recipe.epochs
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min((step + 1) / WARM_UP, left)
            scores = network(*network.inputs([example.words for example in batch]))
            value = _loss(scores, batch, network.labels) / len(batch)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            averaged.update_parameters(network)
            losses.append(value.item())
            step += 1
        mean = float(np.mean(losses))
        say(f"epoch {epoch + 1} of {recipe.epochs}, {time.monotonic() - started:.0f} s, loss {mean:.2f}:")
        assert isinstance(averaged.module, Network)
        result = _save_and_score(averaged.module, dev, out)
        report = {"epoch": epoch + 1, "loss": mean, **result.to_dict()}
    _write_report(report, out)


def _save_and_score(network: Network, dev: Sequence[GoldCaption], out: Path) -> ParserScores:
    save(network.eval(), out)
    graphs = NeuralParser(out).parse([caption.caption for caption in dev])
    result = score_graphs(graphs, dev, _lemmatizer(), _synonyms())
    say(
        f"  SPICE {result.spice:.2%}, Set Match {result.set_match:.2%}; "
        f"long captions: {result.long_spice:.2%}, {result.long_set_match:.2%}",
    )
    return result


def _write_report(report: Mapping[str, object], out: Path) -> None:
    (out / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _rates(network: Network, recipe: Recipe) -> list[dict[str, object]]:
    """The parameters with their learning rates."""
    below: list[nn.Parameter] = []
    above: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (below if name.startswith("encoder.") else above).append(parameter)
    return [{"params": below, "lr": recipe.encoder_rate}, {"params": above, "lr": recipe.rate}]


def _loss(scores: Scores, batch: Sequence[Example], labels: Labels) -> Tensor:
    """The sum over captions of what the graphs and what the teachers demand."""
    weights = torch.tensor([example.weight for example in batch])
    value = loss(scores, graph_targets(batch, labels), weights)
    taught = [i for i, example in enumerate(batch) if example.taught is not None]
    if taught:
        targets = taught_targets([example.taught for example in batch if example.taught is not None])
        value = value + loss(Scores(*(tensor[taught] for tensor in scores)), targets, torch.ones(len(taught)))
    return value
