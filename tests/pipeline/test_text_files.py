"""Compressed text and JSON that unfold to gigabytes end in one error, in bounded memory."""

import bz2
import gzip
import lzma

import pytest

from parsers.command import InputError
from pipeline.text_files import MAX_LINE, read_items
from tests.bombs import read_in_a_process

HEADS = {
    "csv": b"image_id,caption\n1,",
    "tsv": b"image_id\tcaption\n1\t",
    "jsonl": b'{"image_id": 1, "caption": "a dog"}\n',
    "json": b'[{"image": "1.jpg", "caption": "a dog"}, {"a": "',
    "coco": b'{"annotations": [{"image_id": 1, "caption": "',
    "karpathy": b'{"images": [{"filename": "1.jpg", "sentences": [], "',
}
IMPORT = "from pipeline.parse.formats import FORMATS"
READ = "for _ in FORMATS['{0}'](path / '{0}', {{}}): pass"


@pytest.mark.parametrize("compression", [gzip, bz2, lzma], ids=lambda module: module.__name__)
def test_lines_and_values_without_end_in_compressed_files_are_one_error(tmp_path, compression):
    endless = compression.compress(b"a" * 10**6) * 300  # readers take several streams for one
    for name, head in HEADS.items():
        (tmp_path / name).write_bytes(compression.compress(head) + endless)
    said = read_in_a_process(tmp_path, IMPORT, *map(READ.format, HEADS))
    assert len(said) == len(HEADS)
    for name, line in zip(HEADS, said, strict=True):
        assert line.startswith(f"{tmp_path / name}: ")
        assert ("unfold to" if name in ("csv", "tsv", "jsonl") else "an item has more than 16,777,216 bytes") in line


@pytest.mark.parametrize(
    ("head", "unit", "key"),
    [
        (b"[[", b"[],", None),
        (b'["', b"a", None),
        (b'{"a": 1, "annotations": [{"caption": "', b"a", "annotations"),
        (b'{"annotations": [[', b'"a",', "annotations"),
    ],
)
def test_an_item_without_end_is_an_error(tmp_path, head, unit, key):
    path = tmp_path / "a.json"
    path.write_bytes(head + unit * (MAX_LINE // len(unit) + (1 << 17)))
    with pytest.raises(InputError, match=r"a\.json: cannot be read as JSON: an item has more than 16,777,216 bytes"):
        list(read_items(path, key))


def test_a_list_may_be_longer_than_an_item(tmp_path):
    path = tmp_path / "a.json"
    count = MAX_LINE // 15
    path.write_bytes(b'{"images": [%s], "annotations": [%s]}' % ((b",".join([b'{"a": [1, 2]}'] * count),) * 2))
    assert sum(1 for _ in read_items(path, "annotations")) == count
