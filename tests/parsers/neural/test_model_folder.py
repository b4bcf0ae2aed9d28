"""Networks are written to folders and read again."""

import dataclasses
import json

import pytest
import torch

from parsers.neural.model_folder import compute_checksum, load_parser_network, save_network
from parsers.neural.network import ParserNetwork
from parsers.neural.parser import MODEL
from parsers.neural.piece_encoder import PieceEncoder
from parsers.neural.tokenizer import tokenize
from parsers.neural.vocabulary import Vocabulary
from parsers.neural.word_encoder import WordEncoder

VOCABULARY = Vocabulary(("", "a", "dog", "’"), ("-0+", "-3+ dog"), ("", "on top of"), 2, ("dag", "dogma"))
FILES = {"config.json", "words.txt", "edits.txt", "relation_labels.txt", "lookalikes.txt.gz", "model.safetensors"}


def make_network(vocabulary=VOCABULARY):
    torch.manual_seed(0)
    return ParserNetwork(WordEncoder(vocabulary.words, width=8), vocabulary, arc=4).eval()


def test_a_network_is_saved_and_loaded(tmp_path):
    network = make_network()
    save_network(network, tmp_path / "new" / "folder")
    again = load_parser_network(tmp_path / "new" / "folder")
    assert again.vocabulary == VOCABULARY
    assert not again.training
    caption = [tokenize("a dog")]
    for ours, theirs in zip(network.score(caption), again.score(caption), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)  # weights are kept in float16


def test_a_network_over_bert_is_saved_and_loaded(bert, tmp_path):
    torch.manual_seed(0)
    network = ParserNetwork(PieceEncoder.from_pretrained(bert), VOCABULARY).eval()
    save_network(network, tmp_path)
    again = load_parser_network(tmp_path)
    caption = [tokenize("two dogs on a red mat")]
    for ours, theirs in zip(network.score(caption), again.score(caption), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)  # weights are kept in float16


def test_settings_are_json_and_words_are_lines_and_no_abuse_can_be_read(tmp_path):
    save_network(make_network(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "checksums.json"}
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "encoder": {"width": 8}, "arc": 4, "frequent_words": 2,
    }  # fmt: skip
    assert (tmp_path / "words.txt").read_text() == "a\ndog\n’\n"
    assert (tmp_path / "edits.txt").read_text() == "-0+\n-3+ dog\n"
    assert (tmp_path / "relation_labels.txt").read_text() == "on top of\n"
    assert not any(b"dogma" in path.read_bytes() for path in tmp_path.iterdir())


def test_the_shipped_model_has_this_layout():
    assert {path.name for path in MODEL.iterdir()} == {*FILES, "README.md", "checksums.json"}
    assert all(len(line) < 100 for path in MODEL.glob("*.txt") for line in path.read_text().splitlines())


def test_the_same_network_is_written_alike(tmp_path):
    for name in ("one", "two"):
        save_network(make_network(), tmp_path / name)
    assert compute_checksum(tmp_path / "one") == compute_checksum(tmp_path / "two")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(tmp_path, name):
    save_network(make_network(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(OSError, match=name):
        load_parser_network(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"words": ("", "a", "dog", "cat")},
        {"edits": ("-0+", "-1+")},
        {"relation_labels": ("", "on")},
        {"frequent_words": 1},
        {"lookalikes": ("dogma",)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_checksum_follows_every_part_of_the_vocabulary(tmp_path, changes):
    save_network(make_network(), tmp_path / "one")
    save_network(make_network(dataclasses.replace(VOCABULARY, **changes)), tmp_path / "two")
    assert compute_checksum(tmp_path / "one") != compute_checksum(tmp_path / "two")
