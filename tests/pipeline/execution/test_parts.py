"""A part appears complete or not at all."""

import json

import pytest

from pipeline.execution.parts import Marker, Part, Reject, path_of_marker, read_marker


@pytest.fixture
def part(tmp_path):
    """A part whose files are written but not in place."""
    part = Part(tmp_path, 3)
    for name in ("part-00003.txt", "deep/more.txt"):
        with part.open(name) as stream:
            stream.write(b"12345")
    part.statistics["rows"] = 2
    part.rejects += [Reject("a.tsv", "line 7", "no caption"), Reject("é.tsv", "line 8", "no caption")]
    return part


def visible(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("[!.]*") if path.is_file())


def test_nothing_appears_before_the_part_is_complete(part, tmp_path):
    assert visible(tmp_path) == []
    assert read_marker(tmp_path, 3) is None
    part.complete()
    expected = ["deep/more.txt", "part-00003.stats.json", "part-00003.txt", "rejects/part-00003.jsonl"]
    assert visible(tmp_path) == expected


def test_what_is_discarded_leaves_nothing(part, tmp_path):
    part.discard()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_marker_says_what_the_part_holds(part, tmp_path):
    part.complete()
    size = (tmp_path / "rejects/part-00003.jsonl").stat().st_size
    files = {"part-00003.txt": 5, "deep/more.txt": 5, "rejects/part-00003.jsonl": size}
    assert read_marker(tmp_path, 3) == Marker(files, {"rows": 2}, {"no caption": 2})
    rejects = [json.loads(line) for line in (tmp_path / "rejects/part-00003.jsonl").read_text().splitlines()]
    assert rejects[1] == {"source": "é.tsv", "position": "line 8", "reason": "no caption"}


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"files": 3, "statistics": {}, "rejects": {}}'])
def test_a_damaged_marker_means_that_the_part_is_not_complete(part, tmp_path, content):
    part.complete()
    path_of_marker(tmp_path, 3).write_text(content)
    assert read_marker(tmp_path, 3) is None


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"1234")])
def test_a_missing_or_changed_file_means_that_the_part_is_not_complete(part, tmp_path, change):
    part.complete()
    change(tmp_path / "deep/more.txt")
    assert read_marker(tmp_path, 3) is None
