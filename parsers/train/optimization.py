"""Trains one network by a recipe, and scores it on the development captions after each epoch."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from parsers.command import say
from parsers.evaluate.evaluation import ParserScores, score_graphs
from parsers.evaluate.scoring import Synonyms
from parsers.evaluate.synonyms import load_synonyms
from parsers.gold import GoldCaption
from parsers.lemmatizer import Lemmatizer
from parsers.neural.model_folder import save_network
from parsers.neural.network import ParserNetwork
from parsers.neural.parser import NeuralParser
from parsers.neural.word_encoder import WordEncoder
from parsers.train.augmentation import join_randomly
from parsers.train.examples import TrainingExample, make_batches
from parsers.train.progress import STATE, Progress, name_run
from parsers.train.recipe import ParserRecipe
from parsers.train.targets import compute_batch_loss

WARM_UP = 300
"""Steps in which the learning rate rises."""
MAX_GRADIENT_NORM = 5.0
THREADS = torch.get_num_threads()
REPORT = "scores.json"
"""The file that is written last: a folder that holds it holds a trained network."""
get_lemmatizer = cache(Lemmatizer)


@cache
def get_synonyms() -> Synonyms:
    """Returns WordNet's synonyms.

    Raises:
        InputError: WordNet is not installed.
    """
    return load_synonyms(get_lemmatizer())


def train_network(
    network: ParserNetwork,
    learned: Sequence[TrainingExample],
    gold: Sequence[TrainingExample],
    dev: Sequence[GoldCaption],
    out: Path,
    recipe: ParserRecipe,
    rng: np.random.Generator,
) -> None:
    """Trains a network and writes it, its weights averaged over the last steps, and its scores.

    A run that was stopped goes on after its last whole epoch, and ends with the same weights.

    Args:
        network: the network, on the device to train it on.
        learned: what the network learns in each epoch.
        gold: aligned gold captions; joined pairs of them are added to each epoch.
        dev: the captions to score the network on.
        out: the folder for the network.
        rng: draws the pairs and the batches.
    """
    say(f"training {out} on {len(learned):,} captions")
    # In a small network several threads would wait for each other.
    torch.set_num_threads(1 if isinstance(network.encoder, WordEncoder) else THREADS)
    optimizer = torch.optim.AdamW(_group_parameters(network, recipe), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaged))  # type: ignore[no-untyped-call]
    shapes = [(name, tuple(tensor.shape)) for name, tensor in network.named_parameters()]
    run = name_run((example.words for example in learned), recipe, shapes)
    progress = Progress(out / STATE, run, network, averaged, optimizer, rng)
    progress.resume()
    for epoch in range(progress.epochs, recipe.epochs):
        started = time.monotonic()
        network.train()
        batches = list(make_batches([*learned, *join_randomly(gold, recipe.joined, rng)], recipe.batch, rng))
        losses = []
        for done, batch in enumerate(batches):
            left = 1 - (1 - recipe.last) * (epoch + done / len(batches)) / recipe.epochs
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min((progress.steps + 1) / WARM_UP, left)
            scores = network(*network.inputs([example.words for example in batch]))
            loss = compute_batch_loss(scores, batch, network.vocabulary) / len(batch)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            averaged.update_parameters(network)
            losses.append(loss.detach())
            progress.steps += 1
        mean = float(torch.stack(losses).mean())
        say(f"epoch {epoch + 1} of {recipe.epochs}, {time.monotonic() - started:.0f} s, loss {mean:.2f}:")
        assert isinstance(averaged.module, ParserNetwork)
        result = save_and_score(averaged.module, dev, out)
        progress.save({"epoch": epoch + 1, "loss": mean, **result.to_dict()})
    write_training_report(progress.report, out)
    progress.remove()


def save_and_score(network: ParserNetwork, dev: Sequence[GoldCaption], out: Path) -> ParserScores:
    """Writes a network into a folder and returns its scores on the development captions."""
    save_network(network.eval(), out)
    graphs = NeuralParser(out).parse([caption.caption for caption in dev])
    result = score_graphs(graphs, dev, get_lemmatizer(), get_synonyms())
    say(
        f"  SPICE {result.spice:.2%}, Set Match {result.set_match:.2%}; "
        f"long captions: {result.long_spice:.2%}, {result.long_set_match:.2%}"
    )
    return result


def write_training_report(report: Mapping[str, object], out: Path) -> None:
    """Writes the scores of a network that is ready."""
    (out / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _group_parameters(network: ParserNetwork, recipe: ParserRecipe) -> list[dict[str, object]]:
    """Returns the trained parameters of the encoder and those above it, each group with its learning rate."""
    below: list[nn.Parameter] = []
    above: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (below if name.startswith("encoder.") else above).append(parameter)
    return [{"params": below, "lr": recipe.encoder_rate}, {"params": above, "lr": recipe.rate}]
