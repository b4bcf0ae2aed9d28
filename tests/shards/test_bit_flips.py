"""Thirty bits of each kind of file are flipped at random: every flip is found, or what is read is the same."""

import json
import random

import numpy as np
import pytest

from parsers.command import InputError
from shards.reader import ShardSet
from shards.storage.files import read_record, seal, unseal, write_record
from tests.shards.samples import contents

FLIPS = 30


def check_flips(path, read):
    """Flips single bits of a file, and reads each time. Returns how many flips were found."""
    sound, before = path.read_bytes(), read(path)
    bits = random.Random(0).sample(range(8 * len(sound)), FLIPS)
    found = 0
    for bit in bits:
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert read(path) == before, f"{path.name}: bit {bit} gives something else without a word"
        except InputError:
            found += 1
    path.write_bytes(sound)
    return found


@pytest.mark.parametrize("name", ["manifest.json", "index.parquet", "vocab.txt"])
def test_a_set_of_shards(folder, name):
    def read(_):
        shards = ShardSet(folder)
        return contents(folder), shards.vocabulary, shards.manifest

    assert check_flips(folder / name, read) > FLIPS * 0.7


def test_a_record(tmp_path):
    record = {"stage": "pack", "inputs": {"path": "a\udcff", "bytes": 12}, "shares": [0.25, None], "1": True}
    path = tmp_path / "stage.json"
    write_record(record, path)
    assert read_record(path) == record
    assert check_flips(path, read_record) > FLIPS * 0.7


def test_a_record_of_an_earlier_release_is_read(tmp_path):
    (tmp_path / "stage.json").write_text('{"stage": "pack"}')
    assert read_record(tmp_path / "stage.json") == {"stage": "pack"}


@pytest.mark.parametrize("text", ["", "[1]", "null", "{", '{"a": 1, "sha256": 5}', "[" * 100_000])
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "stage.json").write_text(text)
    with pytest.raises(InputError, match=r"stage\.json: "):
        read_record(tmp_path / "stage.json")


def test_sealed_bytes(tmp_path):
    path = tmp_path / "block.npy"
    path.write_bytes(seal(np.arange(100).tobytes()))
    assert unseal(path.read_bytes(), path) == np.arange(100).tobytes()
    assert check_flips(path, lambda path: unseal(path.read_bytes(), path)) == FLIPS


@pytest.mark.parametrize("size", [0, 1, 40, -1])
def test_sealed_bytes_that_were_cut_are_refused(tmp_path, size):
    with pytest.raises(InputError, match=r"a\.npy: differs"):
        unseal(seal(b"some bytes")[:size], tmp_path / "a.npy")


HOSTILE = [
    ("index_sha256", "../" * 20 + "etc/passwd"),
    ("index_sha256", "0" * 63 + "/"),
    ("index_sha256", "A" * 64),
    ("index_sha256", ["0" * 63]),
    ("index_sha256", "0" * 64 + "\n"),
    ("tokenizer", {"sha256": "..", "size": 1}),
    ("tokenizer", {"sha256": "0" * 64, "size": -1}),
    ("feature_size", -5),
    ("feature_size", 10**400),
    ("totals", {"samples": float("nan")}),
    ("shards", [{"file": "../a.tar", "samples": 1, "bytes": 1, "sha256": "0" * 64}]),
    ("shards", [{"file": "a\n.tar", "samples": 1, "bytes": 1, "sha256": "0" * 64}]),
    ("shards", [{"file": "a.tar", "samples": 1, "bytes": 1, "sha256": "/" + "0" * 63}]),
]


@pytest.mark.parametrize(("name", "value"), HOSTILE, ids=lambda value: str(value)[:30])
def test_a_manifest_with_what_no_packing_writes_is_refused(folder, name, value):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {name: value}))
    with pytest.raises(InputError, match=r"manifest\.json: "):
        ShardSet(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "9" * 5_000, "[]", "\ufeff{}"])
def test_a_manifest_that_is_no_manifest_is_refused(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json: "):
        ShardSet(folder)
