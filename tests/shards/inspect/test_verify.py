"""Every flipped bit is found, and what is wrong is named."""

import hashlib
import json
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import shards.inspect.__main__ as inspect
from parsers.command import InputError
from shards.inspect.verify import repair_index, verify_set
from shards.members import decode_record, encode_sample
from shards.reader import ShardSet
from shards.schema import key_of
from tests.shards.samples import IDS, SAMPLES, VOCABULARY, flip, manifest_of, problems_of, with_size


def test_sound_shards_have_no_problems(folder):
    assert problems_of(folder) == []
    result = CliRunner().invoke(inspect.app, ["verify", str(folder)])
    assert result.exit_code == 0, result.output
    assert "all sound" in result.output


def test_any_flipped_bit_is_found(folder):
    path = folder / "shard-00000.tar"
    sound = path.read_bytes()
    for position in range(0, len(sound), len(sound) // 30):
        flip(path, position)
        assert any("sha256" in problem.what for problem in problems_of(folder)), position
        path.write_bytes(sound)


def test_a_damaged_sample_is_named(folder):
    offset, _ = ShardSet(folder).shard(0).extents[2, 1]
    path = folder / "shard-00000.tar"
    data = bytearray(path.read_bytes())
    data[offset + 128 : offset + 132] = np.array([np.nan], "<f4").tobytes()
    path.write_bytes(bytes(data))
    found = problems_of(folder)
    assert any("NaN" in problem.what and key_of(IDS[2]) in problem.where for problem in found)
    assert len(found) == 2, "checksum and the one sample"


def test_a_manifest_of_the_wrong_tar_is_found(folder, tmp_path):
    """Same size, checksum in the manifest adjusted: the samples themselves betray it."""
    path = folder / "shard-00000.tar"
    path.write_bytes(path.read_bytes().replace(b'"image_id":"a.b"', b'"image_id":"a.x"'))
    manifest = manifest_of(folder)
    manifest["shards"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert [problem.what for problem in problems_of(folder)] == [
        "its checksum differs from the index's: its record is that of image 'a.x'"
    ]


def test_another_vocabulary_is_found(folder):
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, "more"]))
    assert [Path(problem.where).name for problem in problems_of(folder)] == ["vocab.txt"]


def test_word_pieces_outside_the_vocabulary_are_found(folder):
    fewer = "\n".join(VOCABULARY[:9]).encode()
    (folder / "vocab.txt").write_bytes(fewer)
    tokenizer = {"sha256": hashlib.sha256(fewer).hexdigest(), "size": 9}
    (folder / "manifest.json").write_text(json.dumps(manifest_of(folder) | {"tokenizer": tokenizer}))
    assert any("outside the vocabulary" in problem.what for problem in problems_of(folder))


def test_several_workers_find_the_same_problems_in_the_same_order(folder):
    data = bytearray((folder / "shard-00001.tar").read_bytes())
    data[700] ^= 1
    (folder / "shard-00001.tar").write_bytes(data)
    shards = ShardSet(folder, check_tars=False)
    assert list(verify_set(shards, workers=2)) == list(verify_set(shards))


@pytest.mark.parametrize(("where", "key"), [((), "width"), ((), "image_id"), (("captions", 0), "caption_id")])
def test_a_record_with_values_of_another_kind_is_refused(where, key):
    record = json.loads(b"".join(dict(encode_sample(SAMPLES[1]))["json"]))
    reduce(getitem, where, record)[key] = [1]
    with pytest.raises(ValueError, match="not the JSON record of a sample"):
        decode_record(json.dumps(record).encode())


def test_a_class_that_has_no_name_is_found(folder):
    """`show` and `html` name the classes, so a count alone does not make an id right."""
    manifest = manifest_of(folder)
    manifest["classes"]["names"] = manifest["classes"]["names"][:1]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert any("a class id outside the classes" in problem.what for problem in problems_of(folder))
    numbers = ShardSet(folder).sample(0, 1).regions.class_ids
    assert numbers.max() > 0
    shown = CliRunner().invoke(inspect.app, ["show", str(folder), IDS[1]])
    assert shown.exit_code == 0, shown.output
    page = CliRunner().invoke(inspect.app, ["html", str(folder), "--out", str(folder.parent / "page.html")])
    assert page.exit_code == 0, page.output


@pytest.mark.parametrize("size", [-512, -(1 << 60), 1 << 20, 1 << 70])
def test_sizes_that_the_tar_does_not_have_are_named(folder, size):
    """The manifest agrees with the tar, as where somebody made both."""
    path = folder / "shard-00000.tar"
    data = path.read_bytes()
    data = data[:1024] + with_size(data[1024:], size)
    path.write_bytes(data)
    manifest = manifest_of(folder)
    manifest["shards"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert any("cannot be read as a tar" in problem.what for problem in problems_of(folder))
    with pytest.raises(InputError, match=r"shard-00000\.tar: "):
        repair_index(folder)


def test_an_image_too_large_for_its_column_is_refused():
    record = json.loads(b"".join(dict(encode_sample(SAMPLES[1]))["json"]))
    with pytest.raises(ValueError, match="not the JSON record of a sample"):
        decode_record(json.dumps(record | {"width": 1 << 40}).encode())


def test_an_empty_tar_and_a_folder_in_a_files_place_are_named(folder):
    (folder / "shard-00000.tar").write_bytes(b"")
    assert any("holds no bytes" in problem.what for problem in problems_of(folder))
    (folder / "vocab.txt").unlink()
    (folder / "vocab.txt").mkdir()
    assert any(problem.where.endswith("vocab.txt") for problem in problems_of(folder))


def test_workers_end_with_a_verification_that_is_killed(folder):
    kill = (
        "import os; from shards.inspect.verify import verify_set; from shards.reader import ShardSet;"
        f"[os.kill(os.getpid(), 9) for _ in verify_set(ShardSet({str(folder)!r}), workers=2)]"
    )
    # The workers hold the pipe: it ends when all of them have ended.
    killed = subprocess.run([sys.executable, "-c", kill], stdout=subprocess.PIPE, timeout=60)
    assert killed.returncode == -9
