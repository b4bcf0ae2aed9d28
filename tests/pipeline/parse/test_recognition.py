"""Formats are known by their structure, in whatever encoding, and whichever words they hold."""

import bz2
import gzip
import json
import lzma
import os

import pyarrow as pa
import pytest

from parsers.command import InputError
from pipeline.parse import captions
from pipeline.parse.recognition import recognise_captions
from tests.pipeline.parse.sources import COCO, jsonl, plain, write

RECORD = {"image_id": 1, "caption": "a dog"}
TEXTS = {
    "jsonl": jsonl(RECORD, RECORD | {"image_id": 2}),
    "coco": json.dumps(COCO),
    "json": json.dumps([RECORD]),
    "csv": "image_id,caption\n1,a dog\n",
    "tsv": "image_id\tcaption\n1\ta dog\n",
    "conceptual-captions": "a dog\thttp://x/1.jpg\n",
    "karpathy": json.dumps({"images": [{"cocoid": 1, "sentences": [{"raw": "a dog", "sentid": 1}]}]}),
}
ENCODINGS = {
    "bom": lambda data: b"\xef\xbb\xbf" + data,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("format", TEXTS)
def test_a_byte_order_mark_and_compression_change_nothing(tmp_path, format, encoding):
    expected = plain(write(tmp_path, "plain", TEXTS[format]), format)
    path = write(tmp_path, "encoded", ENCODINGS[encoding](TEXTS[format].encode()))
    assert recognise_captions(path)[0] == format
    assert plain(path, format) == expected
    assert len(expected[0]) == 4


@pytest.mark.parametrize("format", TEXTS)
def test_zstd_is_read_to_its_end(tmp_path, format):
    """Its writers that use several processors cut a file into frames."""
    data, zstd = TEXTS[format].encode(), pa.Codec("zstd")
    frames = [zstd.compress(part, asbytes=True) for part in (data[:20], data[20:])]
    path = write(tmp_path, "a.zst", b"".join(frames))
    assert recognise_captions(path)[0] == format
    assert plain(path, format) == plain(write(tmp_path, "plain", TEXTS[format]), format)
    path.write_bytes(b"".join(frames)[:-3])
    with pytest.raises(InputError, match=r"a\.zst: cannot be read"):
        list(captions.read(path, format))


@pytest.mark.parametrize("format", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_named(tmp_path, format, encoding):
    path = write(tmp_path, "a", TEXTS[format].encode(encoding))
    for read in (recognise_captions, lambda path: list(captions.read(path, format))):
        with pytest.raises(InputError, match="UTF-16"):
            read(path)


@pytest.mark.parametrize(
    "data",
    [gzip.compress(b"x" * 5000)[:-9], bz2.compress(b"x" * 500)[:-5], b"PK\x03\x04", b"\x1f\x8b"],
    ids=["gzip", "bzip2", "zip", "gzip, no header"],
)
def test_a_damaged_archive_is_refused(tmp_path, data):
    path = write(tmp_path, "a.gz", data)
    with pytest.raises(InputError, match=r"a\.gz"):
        recognise_captions(path)
    with pytest.raises(InputError, match=r"a\.gz"):
        list(captions.read(path, "jsonl"))


@pytest.mark.parametrize("more", [{"images": ["a.jpg"]}, {"annotations": [{"box": [1, 2]}]}, {"text": "x" * 200_000}])
@pytest.mark.parametrize("first", [True, False])
def test_a_record_is_a_record_whatever_else_it_holds(tmp_path, more, first):
    record = more | RECORD if first else RECORD | more
    path = write(tmp_path, "a.jsonl", jsonl(record, record))
    assert recognise_captions(path)[0] == "jsonl"


def test_lists_of_captions(tmp_path):
    path = write(tmp_path, "a.jsonl", jsonl({"image_id": 1, "caption_id": 7, "caption": ["a dog", "a cat", 3]}))
    assert plain(path, "jsonl") == [
        ("line 1, caption 1", "1", "7-1", "a dog"),
        ("line 1, caption 2", "1", "7-2", "a cat"),
        ("line 1, caption 3", "no caption"),
    ]


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("['a dog', \"a man's cat\"]", ["a dog", "a man's cat"]),
        ('["a dog", "a \\"cat\\""]', ["a dog", 'a "cat"']),
        ("['a dog' 'a cat'\n 'a bus']", ["a dog", "a cat", "a bus"]),
        ("['one']", ["one"]),
        ("[a dog]", ["[a dog]"]),
    ],
)
def test_a_list_in_a_cell(tmp_path, cell, texts):
    path = write(tmp_path, "a.csv", 'image_id,caption\n1,"{}"\n'.format(cell.replace('"', '""')))
    assert [row[-1] for row in plain(path, "csv")] == texts


@pytest.mark.parametrize("cell", ["['a dog', f'x']", "['a dog, 'a cat']", "['a' + 'b']"])
def test_a_list_that_cannot_be_read_is_a_reject(tmp_path, cell):
    path = write(tmp_path, "a.jsonl", jsonl({"image_id": 1, "caption": cell}))
    assert plain(path, "jsonl") == [("line 1", "a list of captions that cannot be read")]


def test_blip(tmp_path):
    rows = [{"image": "val2014/COCO_val2014_000000000042.jpg", "image_id": "coco_42", "caption": ["a dog", "a cat"]}]
    path = write(tmp_path, "a.json", json.dumps([*rows, {"image_id": 3, "caption": "a"}, 7]))
    assert recognise_captions(path)[0] == "json"
    assert plain(path, "json") == [
        ("[0], caption 1", "42", None, "a dog"),
        ("[0], caption 2", "42", None, "a cat"),
        ("[1]", "3", None, "a"),
        ("[2]", "not a JSON object"),
    ]


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("A dog &amp; a cat", "A dog & a cat"),
        ("the man&#39;s bed &#x27;x&#x27;", "the man's bed 'x'"),
        ("&amp;quot;dog&amp;quot;", '"dog"'),
        ("AT&T; fish &chips; R&D &copy", "AT&T; fish &chips; R&D &copy"),
    ],
)
def test_entities_of_html_are_characters(tmp_path, text, caption):
    (row,) = captions.read(write(tmp_path, "a.jsonl", jsonl({"image_id": 1, "caption": text})), "jsonl")
    assert row.caption == caption
    assert row.unescaped == (text != caption)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
@pytest.mark.parametrize("format", ["auto", "coco", "csv", "tsv", "parquet", "webdataset", "jsonl", "vcr"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind, format):
    path = tmp_path / "a"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="not a file"):
        recognise_captions(path) if format == "auto" else list(captions.read(path, format))


@pytest.mark.parametrize("value", ["[" * 100_000, '{"a":' * 50_000, "9" * 5_000, "-" + "9" * 5_000, "1e" + "9" * 5_000])
@pytest.mark.parametrize("format", ["coco", "karpathy", "json", "jsonl", "vcr"])
def test_hostile_json_is_a_reject_or_an_error(tmp_path, value, format):
    texts = {"coco": '{"annotations": [%s', "karpathy": '{"images": [%s', "json": "[%s"}
    path = write(tmp_path, "a.json", texts.get(format, '{"caption": "x", "a": %s}') % value)
    refused = False
    for read in (recognise_captions, lambda path: plain(path, format)):
        try:
            rows = read(path)
        except InputError as error:
            refused = "a.json" in str(error)
        else:
            refused = rows[0] in ("json", "jsonl", "coco") or [len(row) for row in rows] == [2]
        assert refused


def test_brackets_in_text_are_no_nesting(tmp_path):
    rows = [{"image_id": n, "caption": f'{"[{" * 50} \\" \\\\" {n}'} for n in range(3000)]
    path = write(tmp_path, "a.json", json.dumps({"annotations": rows}))
    assert [row[-1] for row in plain(path, "coco")] == [row["caption"] for row in rows]
