"""What networks learn from: captions with gold graphs, and captions with the graphs that the rules find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import parsers
from parsers.command import say
from parsers.gold import GoldCaption, read_gold
from parsers.neural.spelling import SpellingCorrector, find_lookalikes
from parsers.neural.tokenizer import tokenize
from parsers.train.alignment import Aligner, align_spans
from parsers.train.examples import TrainingExample, select_complete, select_short
from parsers.train.labels import FREQUENT, LEAST_WORD
from parsers.train.optimization import get_lemmatizer
from parsers.train.paragraphs import ParagraphCutter

RULES_WEIGHT = 0.2
"""How much a graph by rules counts beside a gold one."""


@dataclass(frozen=True, slots=True)
class GoldExamples:
    """Examples whose whole gold graph could be tied to words."""

    once: list[TrainingExample]
    repeated: list[TrainingExample]
    """the same, but those of a file that was named twice are there twice"""


def read_gold_files(paths: Sequence[Path]) -> dict[Path, list[GoldCaption]]:
    """Reads the captions for training, each file once.

    Raises:
        InputError: a file cannot be read.
    """
    return {path: read_gold(path, "train") for path in paths}


def prepare_spelling(
    gold: Sequence[GoldCaption], is_word: Callable[[str], bool]
) -> tuple[list[str], SpellingCorrector]:
    """Returns the words that only look like misspellings, and what corrects real ones."""
    counts = Counter(form for caption in gold for form in tokenize(caption.caption).forms)
    known = [form for form, count in counts.items() if count >= LEAST_WORD]
    frequent = [form for form, count in counts.most_common() if count >= FREQUENT]
    lookalikes = [form for form in find_lookalikes(frequent, is_word) if counts[form] < LEAST_WORD]
    return lookalikes, SpellingCorrector([*known, *lookalikes], frequent)


def align_files(paths: Sequence[Path], gold: dict[Path, list[GoldCaption]], correct: SpellingCorrector) -> GoldExamples:
    """Ties the gold graphs of all files to words.

    Args:
        paths: the files, as they were named.
        gold: the captions of each file.
        correct: corrects the spelling of captions.
    """
    aligned = {path: _align(captions, correct) for path, captions in gold.items()}
    once = [example for examples in aligned.values() for example in examples]
    say(f"{len(once):,} sentences of {sum(map(len, gold.values())):,} gold captions could be aligned")
    return GoldExamples(once, [example for path in paths for example in aligned[path]])


def _align(gold: Sequence[GoldCaption], correct: SpellingCorrector) -> list[TrainingExample]:
    align = Aligner(get_lemmatizer())
    captions = [caption for caption in gold if not caption.mentions]
    words = [correct(tokenize(caption.caption)) for caption in captions]
    examples = [TrainingExample(w, align(w, caption.triples)) for w, caption in zip(words, captions, strict=True)]
    cut = ParagraphCutter(align, correct, parsers.get("dependency").parse)
    sentences = [sentence for paragraph in gold if paragraph.mentions for sentence in cut(paragraph)]
    return select_short(select_complete([*examples, *sentences]))


def parse_by_rules(lines: Sequence[str], correct: SpellingCorrector) -> list[TrainingExample]:
    """Returns captions without gold graphs, with the graphs that the rules find."""
    captions = list(dict.fromkeys(filter(None, (" ".join(line.split()) for line in lines))))
    graphs = parsers.get("dependency").parse(captions) if captions else []
    words = [correct(tokenize(graph.caption)) for graph in graphs]
    examples = [
        TrainingExample(w, align_spans(w, g), RULES_WEIGHT, hidden=None) for w, g in zip(words, graphs, strict=True)
    ]
    return select_short(examples)
