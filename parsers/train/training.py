"""How the neural parser is trained, from files of captions to the folder of a network.

The network learns gold graphs. It also learns captions that have none, with the graphs that the rules of
`parsers.dependency` find: gold captions are short, and the rules read long ones better. Pairs of gold captions are
joined into longer ones, so that the network does not relate words far apart. The weights are averaged over the last
steps.

With ``--pretrained`` the network also learns from teachers: fine-tuned BERTs or MPNets (knowledge distillation, arXiv
1503.02531; of BERT into an LSTM, arXiv 1903.12136). The teachers read the gold captions, the captions without graphs,
and gold captions into which phrases of others were put.

A run may be stopped at any moment. The same command goes on after the last teacher, the last captions that were read
and the last epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from spacy.lang.en.stop_words import STOP_WORDS

import parsers
from parsers.command import InputError, say
from parsers.gold import GoldCaption, read_gold
from parsers.lemmatizer import Lemmatizer
from parsers.neural.model_folder import load_parser_network
from parsers.neural.network import ParserNetwork
from parsers.neural.piece_encoder import PieceEncoder
from parsers.neural.spelling import SpellingCorrector, find_lookalikes
from parsers.neural.tokenizer import tokenize
from parsers.neural.vocabulary import Vocabulary
from parsers.neural.word_encoder import WordEncoder
from parsers.train.alignment import Aligner, align_spans
from parsers.train.augmentation import splice_randomly
from parsers.train.distillation import read_captions
from parsers.train.examples import TrainingExample, select_complete, select_short
from parsers.train.labels import FREQUENT, LEAST_WORD, make_vocabulary
from parsers.train.optimization import (
    REPORT,
    THREADS,
    get_lemmatizer,
    get_synonyms,
    train_network,
)
from parsers.train.paragraphs import ParagraphCutter
from parsers.train.recipe import FROM_PRETRAINED, FROM_SCRATCH, FROM_TEACHERS

RULES_WEIGHT = 0.2
"""How much a graph by rules counts beside a gold one."""


def train_parser(
    data: Sequence[Path], dev: Path, out: Path, unlabelled: Path | None, pretrained: Sequence[Path], teachers: Path,
    width: int, seed: int, device: torch.device,
) -> None:  # fmt: skip
    """Trains the parser and reports progress on the console; `parsers.train.__main__` explains the arguments.

    Raises:
        InputError: a file cannot be read, WordNet is not installed, or ``teachers`` holds a teacher that does not fit.
    """
    get_synonyms()  # without them nothing could be scored, which should be known before hours of training
    gold, scored = {path: read_gold(path, "train") for path in data}, read_gold(dev)
    every = [caption for captions in gold.values() for caption in captions]
    try:
        others = [] if unlabelled is None else unlabelled.read_text(encoding="utf-8").splitlines()
        encoders = [PieceEncoder.from_pretrained(folder) for folder in pretrained]
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    knows = partial(_knows, get_lemmatizer(), encoders)
    lookalikes, correct = _prepare_spelling(every, knows)
    aligned = {path: _align_gold(captions, correct) for path, captions in gold.items()}
    examples = [example for path in data for example in aligned[path]]  # those of a file named twice are there twice
    different = [example for some in aligned.values() for example in some]
    ruled = _parse_by_rules(others, correct)
    vocabulary = make_vocabulary(different, ruled, lookalikes)
    say(
        f"{len(different):,} of {len(every):,} gold captions could be aligned; {len(vocabulary.words):,} words, "
        f"{len(vocabulary.edits)} edits, {len(vocabulary.relation_labels)} whole relation labels"
    )
    taught_by = _prepare_teachers(encoders, teachers, vocabulary, examples, scored, device)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    recipe = FROM_TEACHERS if encoders else FROM_SCRATCH
    encoder = WordEncoder(vocabulary.words, width=width, dropout=recipe.dropout)
    network = ParserNetwork(encoder, vocabulary, dropout=recipe.dropout)
    learned = [*examples, *ruled]
    if encoders:
        encoder.start_from(encoders[0].word_vectors(vocabulary.words, width))
        gold_words = {
            word for caption in every for triple in caption.triples for part in triple for word in part.split()
        }
        torch.set_num_threads(THREADS)  # whatever was trained before, the teachers say the same
        learned += splice_randomly(examples)
        readings = read_captions(learned, taught_by, lambda form: form in gold_words or knows(form), teachers)
        learned = [replace(example, reading=reading) for example, reading in zip(learned, readings, strict=True)]
    train_network(network.to(device), learned, examples, scored, out, recipe, rng)


def _prepare_teachers(
    encoders: Sequence[PieceEncoder],
    folder: Path,
    vocabulary: Vocabulary,
    examples: Sequence[TrainingExample],
    scored: Sequence[GoldCaption],
    device: torch.device,
) -> list[ParserNetwork]:
    """Loads the teachers that an earlier run left in the folder, and trains the others.

    Raises:
        InputError: an earlier teacher stands on another model or has another vocabulary.
    """
    folders = [folder / f"pretrained-{i}" for i in range(len(encoders))]
    found = {path: load_parser_network(path).to(device) for path in folders if (path / REPORT).is_file()}
    for encoder, path in zip(encoders, folders, strict=True):
        if path in found and not _is_teacher(found[path], encoder, vocabulary):
            raise InputError(
                f"{path}: holds a teacher of other gold graphs or another model; delete it, or name another folder "
                "with --teachers"
            )
    for i, (encoder, path) in enumerate(zip(encoders, folders, strict=True)):
        if path not in found:
            torch.manual_seed(i)
            network = ParserNetwork(deepcopy(encoder), vocabulary, dropout=FROM_PRETRAINED.dropout).to(device)
            train_network(network, examples, examples, scored, path, FROM_PRETRAINED, np.random.default_rng(i))
            found[path] = load_parser_network(path).to(device)
    return [found[path] for path in folders]


def _is_teacher(network: ParserNetwork, encoder: PieceEncoder, vocabulary: Vocabulary) -> bool:
    """Tells whether the network stands on such an encoder, and its numbers mean the same edits and labels."""
    known = (network.vocabulary.edits, network.vocabulary.relation_labels)
    return known == (vocabulary.edits, vocabulary.relation_labels) and network.encoder.config == encoder.config


def _knows(lemmatizer: Lemmatizer, encoders: Sequence[PieceEncoder], form: str) -> bool:
    """Tells whether a form is a word of WordNet, a function word or a single piece of a pretrained model."""
    return lemmatizer.knows(form) or form in STOP_WORDS or any(encoder.knows(form) for encoder in encoders)


def _prepare_spelling(
    gold: Sequence[GoldCaption], is_word: Callable[[str], bool]
) -> tuple[list[str], SpellingCorrector]:
    """Returns the words that only look like misspellings, and what corrects real ones."""
    counts = Counter(form for caption in gold for form in tokenize(caption.caption).forms)
    known = [form for form, count in counts.items() if count >= LEAST_WORD]
    frequent = [form for form, count in counts.most_common() if count >= FREQUENT]
    lookalikes = [form for form in find_lookalikes(frequent, is_word) if counts[form] < LEAST_WORD]
    return lookalikes, SpellingCorrector([*known, *lookalikes], frequent)


def _align_gold(gold: Sequence[GoldCaption], correct: SpellingCorrector) -> list[TrainingExample]:
    align = Aligner(get_lemmatizer())
    captions = [caption for caption in gold if not caption.mentions]
    words = [correct(tokenize(caption.caption)) for caption in captions]
    examples = [TrainingExample(w, align(w, caption.triples)) for w, caption in zip(words, captions, strict=True)]
    cut = ParagraphCutter(align, correct, parsers.get("dependency").parse)
    sentences = [sentence for paragraph in gold if paragraph.mentions for sentence in cut(paragraph)]
    return select_short(select_complete([*examples, *sentences]))


def _parse_by_rules(lines: Sequence[str], correct: SpellingCorrector) -> list[TrainingExample]:
    """Returns captions without gold graphs, with the graphs that the rules find."""
    captions = list(dict.fromkeys(filter(None, (" ".join(line.split()) for line in lines))))
    graphs = parsers.get("dependency").parse(captions) if captions else []
    words = [correct(tokenize(graph.caption)) for graph in graphs]
    examples = [
        TrainingExample(w, align_spans(w, g), RULES_WEIGHT, hidden=None) for w, g in zip(words, graphs, strict=True)
    ]
    return select_short(examples)
