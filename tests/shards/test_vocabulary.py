"""The word pieces of a BERT vocabulary, and those of a text."""

import pytest

from parsers.command import InputError
from shards.vocabulary import SPECIAL_TOKENS, load_tokenizer, parse_vocabulary, read_vocabulary


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_line_number_is_the_id(tmp_path, ending):
    pieces = [*SPECIAL_TOKENS, "a", "\u2028", "##s"]
    (tmp_path / "vocab.txt").write_bytes((ending.join(pieces) + ending).encode())
    assert read_vocabulary(tmp_path / "vocab.txt") == pieces


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"a\n[PAD]\n[UNK]\n[CLS]\n[SEP]\n", r"lacks \[MASK\]"), (b"", "lacks"), (b"\xff", "cannot be read")],
)
def test_what_is_no_vocabulary_is_refused_with_its_path(content, problem):
    with pytest.raises(InputError, match=rf"data/vocab\.txt: {problem}"):
        parse_vocabulary(content, "data/vocab.txt")


def test_a_missing_vocabulary_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"vocab\.txt: cannot be read as a vocabulary"):
        read_vocabulary(tmp_path / "vocab.txt")


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
