"""Knowledge distillation (arXiv 1503.02531): teachers read captions, and the network learns what they say."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parsers.command import say
from parsers.neural.edits import makes_words
from parsers.neural.network import GraphScores, ParserNetwork
from parsers.neural.tokenizer import TokenizedCaption
from parsers.train.examples import Reading, TrainingExample, cut_by_length
from parsers.train.progress import name_run
from parsers.train.targets import compress, make_teacher_targets

PART = 10_000
"""Captions whose readings are in one file."""


def read_captions(
    examples: Sequence[TrainingExample], teachers: Sequence[ParserNetwork], is_word: Callable[[str], bool], folder: Path
) -> list[Reading]:
    """Returns what the teachers say of each caption, their log-odds averaged. Equal captions are read once.

    Args:
        examples: captions with or without graphs.
        teachers: networks that share a vocabulary.
        is_word: tells words from what a wrong edit makes ("ladie" of "ladies"); such edits get no probability.
        folder: keeps what was read, `PART` captions in a file; what an earlier run has read is not read again.
    """
    started = time.monotonic()
    captions = list({tuple(example.words.forms): example.words for example in examples}.values())
    checksum = hashlib.sha256()
    for parameter in chain.from_iterable(teacher.parameters() for teacher in teachers):
        checksum.update(parameter.detach().cpu().numpy().tobytes())
    found: dict[tuple[str, ...], Reading] = {}
    for start in range(0, len(captions), PART):
        part = captions[start : start + PART]
        path = folder / f"readings-{name_run(part, checksum.hexdigest())}.npz"
        if not path.is_file():
            save_readings(_read(part, teachers, is_word), path)
            say(f"the teachers have read {start + len(part):,} captions, {time.monotonic() - started:.0f} s")
        found |= zip((tuple(words.forms) for words in part), load_readings(path), strict=True)
    return [found[tuple(example.words.forms)] for example in examples]


def _read(
    captions: Sequence[TokenizedCaption],
    teachers: Sequence[ParserNetwork],
    is_word: Callable[[str], bool],
    size: int = 128,
) -> list[Reading]:
    edits = teachers[0].vocabulary.edits
    mistaken: dict[str, Tensor] = {}  # for each form, which edits make no words of it
    found: dict[int, Reading] = {}
    for numbers in cut_by_length(captions, size):
        batch = [captions[i] for i in numbers]
        for form in {form for words in batch for form in words.forms} - mistaken.keys():
            mistaken[form] = torch.tensor([not makes_words(edit, form, is_word) for edit in edits])
        said = _average(teachers, batch)
        wrong = torch.stack([torch.stack([mistaken[form] for form in words.forms]) for words in batch])
        said = said._replace(edits=said.edits.masked_fill(wrong[:, :, None].to(said.edits.device), -torch.inf))
        found |= zip(numbers, compress(make_teacher_targets(said)), strict=True)
    return [found[i] for i in range(len(captions))]


def _average(teachers: Sequence[ParserNetwork], captions: Sequence[TokenizedCaption]) -> GraphScores:
    """Averages log-odds, and log-probabilities of labels and edits."""
    said = [teacher.score(captions) for teacher in teachers]
    mean = GraphScores(*(torch.stack(tensors).mean(0) for tensors in zip(*said, strict=True)))
    labels, edits = (
        torch.stack([getattr(one, name).log_softmax(-1) for one in said]).mean(0)
        for name in ("relation_labels", "edits")
    )
    return mean._replace(relation_labels=labels, edits=edits)


def save_readings(readings: Sequence[Reading], path: Path) -> None:
    """Writes readings to a file, which is there as a whole or not at all."""
    part = path.with_name(f".{path.name}.tmp")
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            counts=np.array([len(reading.numbers) for reading in readings], np.uint32),
            numbers=np.concatenate([reading.numbers for reading in readings]),
            probabilities=np.concatenate([reading.probabilities for reading in readings]),
        )
    part.replace(path)


def load_readings(path: Path) -> list[Reading]:
    """Reads what `save_readings` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        ends = arrays["counts"].cumsum()[:-1]
        cut = [np.split(arrays[name], ends) for name in ("numbers", "probabilities")]
    return [Reading(*pair) for pair in zip(*cut, strict=True)]
