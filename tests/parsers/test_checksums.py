"""The checksums beside the files of a model find what was damaged, and nothing else."""

import random
import shutil

import pytest

from parsers.checksums import CHECKSUMS, check_file, forget_checksums, write_checksums
from parsers.command import InputError
from parsers.neural.model_folder import FILES, load_parser_network
from parsers.neural.parser import MODEL


@pytest.fixture
def folder(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"the content of {name}")
    write_checksums(tmp_path, ["a.txt"])
    write_checksums(tmp_path, ["b.txt"])
    return tmp_path


def test_sound_unlisted_and_missing_files_pass(folder):
    (folder / "c.txt").write_text("anything")
    for name in ("a.txt", "b.txt", "c.txt", "missing.txt"):
        check_file(folder / name)
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt", "c.txt", CHECKSUMS]


def test_a_changed_file_is_named_with_what_to_do(folder):
    (folder / "b.txt").write_text("another content")
    check_file(folder / "a.txt")
    with pytest.raises(InputError, match=r"b\.txt: differs from its checksum .* copy it again, or remove"):
        check_file(folder / "b.txt")
    forget_checksums(folder)
    check_file(folder / "b.txt")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_damaged_list_is_refused(folder, text):
    (folder / CHECKSUMS).write_text(text)
    with pytest.raises(InputError, match=r"checksums\.json: "):
        check_file(folder / "a.txt")


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_in_the_parser_is_found(tmp_path, name):
    folder = shutil.copytree(MODEL, tmp_path / "model")
    sound = (folder / name).read_bytes()
    for bit in random.Random(0).sample(range(8 * len(sound)), 30):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(damaged)
        with pytest.raises(InputError, match="differs from its checksum"):
            check_file(folder / name)


def test_a_damaged_parser_is_not_loaded(tmp_path):
    folder = shutil.copytree(MODEL, tmp_path / "model")
    words = (folder / "words.txt").read_text()
    (folder / "words.txt").write_text(words.replace("dog", "dot", 1))
    with pytest.raises(InputError, match=r"words\.txt: differs"):
        load_parser_network(folder)
