"""BERT's word pieces of a text."""

import pytest

from shards.tokenizer import load_tokenizer
from shards.vocabulary import SPECIAL_TOKENS


@pytest.fixture
def tokenizer(tmp_path):
    pieces = [*SPECIAL_TOKENS, "a", "red", "hat", "##s", "[", "mask", "]", "cafe"]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    return load_tokenizer(tmp_path / "vocab.txt")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("A red hats", ["a", "red", "hat", "##s"]),
        ("Café", ["cafe"]),
        ("a unicorn", ["a", "[UNK]"]),
        ("[MASK]", ["[", "mask", "]"]),
        ("", []),
    ],
)
def test_texts_become_word_pieces(tokenizer, text, pieces):
    assert tokenizer.encode(text, add_special_tokens=False).tokens == pieces
