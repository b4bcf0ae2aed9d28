"""The word pieces of a BERT vocabulary, and those of a text."""

import pytest

from parsers.command import InputError
from shards.vocabulary import SPECIAL_TOKENS, find_vocabulary, load_tokenizer, parse_vocabulary, read_vocabulary


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


@pytest.mark.parametrize("file", ["vocab.txt", "base/vocab.txt", "run/model/vocab.txt"])
def test_a_vocabulary_is_a_file_or_in_the_folder_of_a_model_or_run(tmp_path, file):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("a\n")
    assert find_vocabulary(str(tmp_path / file.split("/")[0])) == tmp_path / file


def test_a_folder_without_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no vocab\.txt$"):
        find_vocabulary(str(tmp_path))


def test_the_vocabulary_of_a_model_of_the_hub_is_fetched_once(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--someone--bert/snapshots/1/vocab.txt"
    snapshot.parent.mkdir(parents=True)
    snapshot.write_text("a\n")
    (tmp_path / "models--someone--bert/refs").mkdir()
    (tmp_path / "models--someone--bert/refs/main").write_text("1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_vocabulary("someone/bert") == snapshot


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data/my/vocab.txt", "data/my/vocab.txt: no file or folder here, and no model of the hub is so called"),
        (
            "someone/bert",
            "cannot be reached .*; --tokenizer someone/bert: no file or folder here; a model of the hub needs a",
        ),
    ],
)
def test_what_is_neither_here_nor_on_the_hub_is_one_line(name, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://hub.invalid")
    with pytest.raises(InputError, match=message):
        find_vocabulary(name)


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
