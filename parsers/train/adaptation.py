"""A parser goes on learning from other gold graphs, and keeps what it could do before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parsers.command import InputError, say
from parsers.gold import read_gold
from parsers.neural.model_folder import load_parser_network
from parsers.neural.network import VISIBLE, ParserNetwork
from parsers.neural.parser import make_corrector
from parsers.neural.word_encoder import WordEncoder
from parsers.train.optimization import get_synonyms, save_and_score, train_network, write_training_report
from parsers.train.preparation import align_files, read_gold_files
from parsers.train.recipe import ADAPTATION

LIKELY = 2.0
"""Log-odds of `visible` that a parser starts with if all is visible to it."""


def adapt_parser(gold: Sequence[Path], dev: Path, out: Path, start: Path, seed: int, device: torch.device) -> None:
    """Trains a parser further and reports progress on the console; `parsers.train.__main__` explains the arguments.

    The weights that come out are the mean of those before and after (arXiv 2109.01903). The parser keeps its words, its
    edits and its relation labels.

    Raises:
        InputError: a file cannot be read, WordNet is not installed, or there is no small parser to start from.
    """
    get_synonyms()  # without them nothing could be scored
    captions, scored = read_gold_files(gold), read_gold(dev)
    before, network = _load(start), _load(start)
    learned = align_files(gold, captions, make_corrector(network.vocabulary)).repeated
    torch.manual_seed(seed)
    if not network.roles.weight[VISIBLE].any():
        with torch.no_grad():
            network.roles.bias[VISIBLE] = LIKELY
    train_network(network.to(device), learned, learned, scored, out, ADAPTATION, np.random.default_rng(seed))
    after = load_parser_network(out)
    before.load_state_dict(_average(before.state_dict(), after.state_dict()))
    say("the weights before and after, averaged:")
    write_training_report(save_and_score(before, scored, out).to_dict(), out)


def _load(folder: Path) -> ParserNetwork:
    try:
        network = load_parser_network(folder)
    except OSError as error:
        raise InputError(f"{folder}: holds no parser: {error}") from error
    if not isinstance(network.encoder, WordEncoder):
        raise InputError(f"{folder}: holds a teacher, which is not trained further; name a parser")
    network.set_dropout(ADAPTATION.dropout)
    return network


def _average(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the mean of two networks' weights. What was not known before, which nodes are visible, is not halved."""
    mean = {name: (before[name] + after[name]) / 2 for name in after}
    if not before["roles.weight"][VISIBLE].any():
        for name in ("roles.weight", "roles.bias"):
            mean[name][VISIBLE] = after[name][VISIBLE]
    return mean
