"""The tokenizer that pack, fine-tuning and evaluation share."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from shards.vocabulary import read_vocabulary


def load_tokenizer(vocabulary: Path) -> Tokenizer:
    """Makes BERT's lower-casing WordPiece tokenizer for a ``vocab.txt``.

    It does not recognise special tokens inside a text, as ERNIE-ViL's released code does not: "[MASK]" becomes three
    word pieces.

    Raises:
        InputError: the file is no such vocabulary.
    """
    pieces = {piece: number for number, piece in enumerate(read_vocabulary(vocabulary))}
    tokenizer = Tokenizer(WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer
