"""A vocabulary that is learned from captions, for a model that starts from nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shards.storage.files import write_atomic
from shards.vocabulary import SPECIAL_TOKENS, make_tokenizer

MOST_PIECES = 8_000
"""A model that starts from nothing learns little of rarer pieces."""
_PREFIX = "##"


def learn_vocabulary(captions: Iterable[str], path: Path) -> None:
    """Learns word pieces by frequency and writes them as ``vocab.txt``. The same captions give the same file."""
    from tokenizers.trainers import WordPieceTrainer

    texts = list(captions)
    tokenizer = make_tokenizer(SPECIAL_TOKENS)
    cut = tokenizer.pre_tokenizer.pre_tokenize_str
    characters = {c for text in texts for word, _ in cut(tokenizer.normalizer.normalize_str(text)) for c in word}
    # The trainer numbers characters inside words in the order of a hash table, which differs from run to run, and
    # breaks ties by these numbers. They are given beforehand, as special tokens, so that nothing is left to chance.
    given = [*SPECIAL_TOKENS, *sorted(characters), *(_PREFIX + character for character in sorted(characters))]
    trainer = WordPieceTrainer(
        vocab_size=max(MOST_PIECES, len(given)), min_frequency=2, special_tokens=given, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    numbers = tokenizer.get_vocab()
    write_atomic(path, "".join(f"{piece}\n" for piece in sorted(numbers, key=numbers.__getitem__)).encode())
