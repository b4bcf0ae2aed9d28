"""``vocab.txt``: the word pieces of a BERT vocabulary, one a line; the line number from 0 is the id.

And the tokenizer that pack, fine-tuning and evaluation make of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parsers.checksums import check_file
from parsers.command import InputError
from shards.storage.downloads import fetch_from_hub

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY = "vocab.txt"
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def read_vocabulary(path: Path) -> list[str]:
    """The word pieces of a vocabulary file; the position of a piece is its id.

    Raises:
        InputError: the file cannot be read, lacks a special token, or differs from its checksum.
    """
    check_file(path)
    try:
        return parse_vocabulary(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a vocabulary: {error}") from error


def parse_vocabulary(data: bytes, path: str) -> list[str]:
    """The word pieces in the content of a vocabulary file; error messages call the file ``path``.

    Raises:
        InputError: the content is no UTF-8 text, or it lacks a special token.
    """
    try:
        # splitlines() would also split at U+2028 and the like, which can be word pieces.
        pieces = data.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a vocabulary: {error}") from error
    missing = [token for token in SPECIAL_TOKENS if token not in pieces]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; a BERT vocabulary has one word piece a line")
    return pieces


def find_vocabulary(name: str) -> Path:
    """Returns the vocabulary file that a name means: a file, the folder of a model or run, or a model of the hub.

    Raises:
        InputError: it means none of them.
    """
    path = Path(name)
    for file in (path, path / VOCABULARY, path / "model" / VOCABULARY):
        if file.is_file():
            return file
    if path.exists():
        raise InputError(f"{name}: holds no {VOCABULARY}")
    return fetch_from_hub(name, [VOCABULARY], "--tokenizer")


def load_tokenizer(vocabulary: Path) -> Tokenizer:
    """Makes the tokenizer for a ``vocab.txt``, see `make_tokenizer`.

    Raises:
        InputError: the file is no such vocabulary.
    """
    return make_tokenizer(read_vocabulary(vocabulary))


def make_tokenizer(pieces: Sequence[str]) -> Tokenizer:
    """Makes BERT's lower-casing WordPiece tokenizer for word pieces, each at the position of its id.

    It does not recognise special tokens inside a text, as ERNIE-ViL's released code does not: "[MASK]" becomes three
    word pieces.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    numbers = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(numbers, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer
