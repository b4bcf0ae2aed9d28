"""The formats in which captions are published."""

import io
import json
import tarfile
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsers.command import InputError
from pipeline.parse import captions
from pipeline.parse.captions import MAX_WORDS, CaptionRow
from pipeline.parse.recognition import recognise_captions
from shards.vcr_text import PEOPLE
from shards.vocabulary import load_tokenizer
from tests.pipeline.parse.sources import COCO, jsonl, plain, write


def test_coco(tmp_path):
    path = write(tmp_path, "captions.json", json.dumps(COCO))
    assert recognise_captions(path)[0] == "coco"
    assert plain(path, "coco") == [
        ("annotations[0]", "285", "1", "A bear."),
        ("annotations[1]", "285", "2", "A big bear."),
        ("annotations[2]", "632", "3", "Ein Bär 🐻"),
    ]


def test_conceptual_captions(tmp_path):
    path = write(tmp_path, "Train.tsv", "a bear\thttp://x.org/1.jpg\nein Bär 🐻\thttps://x.org/2?a=b\r\n")
    assert recognise_captions(path)[0] == "conceptual-captions"
    assert plain(path, "conceptual-captions") == [
        ("line 1", "http://x.org/1.jpg", None, "a bear"),
        ("line 2", "https://x.org/2?a=b", None, "ein Bär 🐻"),
    ]


def test_jsonl(tmp_path):
    rows = [
        {"image_id": "a", "caption_id": "1", "caption": "a bear"},
        {"image_id": 7, "caption": "ein Bär 🐻 "},
        {"caption": "x", "image_id": "007", "caption_id": 3, "more": [1]},
    ]
    path = write(tmp_path, "captions.txt", jsonl(*rows))
    assert recognise_captions(path)[0] == "jsonl"
    assert plain(path, "jsonl") == [
        ("line 1", "a", "1", "a bear"),
        ("line 2", "7", None, "ein Bär 🐻"),
        ("line 3", "007", "3", "x"),
    ]


def test_a_last_line_needs_no_end(tmp_path):
    path = write(tmp_path, "a.jsonl", jsonl({"image_id": "a", "caption": "b"}).rstrip())
    assert plain(path, "jsonl") == [("line 1", "a", None, "b")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"image_id": "a", "caption": "\xff"}', "invalid UTF-8"),
        (b'{"image_id": "a", "caption": "x"', "not JSON (JSONDecodeError)"),
        (b"", "not JSON (JSONDecodeError)"),
        (rb'{"image_id": "a", "caption": "\ud83d"}', "not valid Unicode (a lone surrogate)"),
        (rb'{"image_id": "\ud83d", "caption": "x"}', "not valid Unicode (a lone surrogate)"),
        (rb'{"image_id": "a", "caption_id": "\udc00", "caption": "x"}', "not valid Unicode (a lone surrogate)"),
    ],
)
def test_a_bad_line_of_json_is_rejected(tmp_path, line, reason):
    path = write(tmp_path, "a.jsonl", line + b'\n{"image_id": "a", "caption": "x"}\n')
    assert plain(path, "jsonl") == [("line 1", reason), ("line 2", "a", None, "x")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a bear", "1 column, expected caption and URL"),
        (b"a\thttp://x\tb", "3 columns, expected caption and URL"),
        (b"\thttp://x", "empty caption"),
        (b"a bear\t", "no image_id"),
        (b"a b\xe9ar\thttp://x", "invalid UTF-8"),
        (b"x " * (MAX_WORDS + 1) + b"\thttp://x", f"caption of more than {MAX_WORDS} words"),
    ],
)
def test_a_bad_line_of_conceptual_captions_is_rejected(tmp_path, line, reason):
    path = write(tmp_path, "a.tsv", b"a\thttp://x\n" + line + b"\nb\thttp://y\n")
    assert plain(path, "conceptual-captions")[1] == ("line 2", reason)
    assert len(plain(path, "conceptual-captions")) == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"1", b'{"annotations": 3}', b'{"annotations": "\xff"}'])
def test_a_file_that_is_no_coco_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"a\.json"):
        list(captions.read(write(tmp_path, "a.json", content), "coco"))


KARPATHY = {
    "dataset": "flickr30k",
    "images": [
        {
            "filename": "1000092795.jpg",
            "split": "train",
            "sentences": [{"raw": "Two men.", "sentid": 0}, {"raw": " Two  friends. ", "sentid": 1}, 7],
        },
        {"filename": "b.jpg", "cocoid": 285, "sentences": [{"raw": "A bear.", "sentid": 5}]},
        {"filename": "c.jpg"},
    ],
}


@pytest.mark.parametrize("indent", [None, 1])
def test_karpathy(tmp_path, indent):
    path = write(tmp_path, "dataset_flickr30k.json", json.dumps(KARPATHY, indent=indent))
    assert recognise_captions(path)[0] == "karpathy"
    assert plain(path, "karpathy") == [
        ("images[0].sentences[0]", "1000092795", "0", "Two men."),
        ("images[0].sentences[1]", "1000092795", "1", "Two  friends."),
        ("images[0].sentences[2]", "not a JSON object"),
        ("images[1].sentences[0]", "285", "5", "A bear."),
        ("images[2]", "not an object with a list `sentences`"),
    ]


def test_csv(tmp_path):
    text = '\ufeffimage_id,"caption",more\n1,"a ""bear"", big",x\n2,"two\nlines",y\n3,short\n,no id,z\n4,b\udcffr,z\n'
    path = write(tmp_path, "a.csv", text.encode("utf-8", "surrogateescape"))
    assert recognise_captions(path)[0] == "csv"
    assert plain(path, "csv") == [
        ("line 2", "1", None, 'a "bear", big'),
        ("line 3", "2", None, "two\nlines"),
        ("line 5", "2 fields under 3 column names"),
        ("line 6", "no image_id"),
        ("line 7", "invalid UTF-8"),
    ]


@pytest.mark.parametrize("column", ["file", "filename", "file_name", "image"])
def test_the_file_of_a_picture_stands_for_its_image_id(tmp_path, column):
    name, rows = "photos/000000000285.jpg", [("285", "a bear"), ("dog", "a dog")]
    table = write(tmp_path, "a.csv", f"{column},caption\n{name},a bear\ndog.png,a dog\n".encode())
    assert recognise_captions(table)[0] == "csv"
    assert [row[1::2] for row in plain(table, "csv")] == rows
    lines = [{column: name, "caption": "a bear"}, {column: "dog.png", "caption": "a dog"}]
    records = write(tmp_path, "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    assert [row[1::2] for row in plain(records, "jsonl")] == rows
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "a.parquet")
    assert [row[1::2] for row in plain(tmp_path / "a.parquet", "parquet")] == rows


def test_an_image_id_is_taken_before_a_file(tmp_path):
    table = write(tmp_path, "a.csv", b"file,image_id,caption\na.jpg,7,a bear\n")
    assert plain(table, "csv") == [("line 2", "7", None, "a bear")]


def test_tsv_with_other_names(tmp_path):
    columns = {"caption": "title", "image_id": "url"}
    path = write(tmp_path, "a.tsv", b'title\turl\tcaption_id\na "bear\thttp://x\t\nb\thttp://y\t7\r\nc\nd\t\xff\t\n')
    assert recognise_captions(path, columns)[0] == "tsv"
    rows = list(captions.read(path, "tsv", columns))
    assert rows[0] == CaptionRow(str(path), "line 2", "http://x", None, 'a "bear')
    assert rows[1] == CaptionRow(str(path), "line 3", "http://y", "7", "b")
    assert [(row.position, row.reason) for row in rows[2:]] == [
        ("line 4", "1 field under 3 column names"),
        ("line 5", "invalid UTF-8"),
    ]
    with pytest.raises(InputError, match=r"no column 'caption'.*--columns image_id=url,caption=text"):
        list(captions.read(path, "tsv"))


def test_parquet(tmp_path):
    text = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(np.array([0, 6, 7, 7], "<i4").tobytes()), pa.py_buffer(b"a bear\xff")]
    )
    table = pa.table({"image_id": [1, 2, 3], "caption": text, "caption_id": ["x", None, None], "more": [[1], [], []]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    assert recognise_captions(path)[0] == "parquet"
    assert plain(path, "parquet") == [
        ("row 1", "1", "x", "a bear"),
        ("row 2", "invalid UTF-8"),
        ("row 3", "empty caption"),
    ]


def tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


SAMPLES = [
    ("000000000.jpg", b"\xff\xd8" * 900),
    ("000000000.txt", b"a bear"),
    ("000000000.json", b'{"url": "http://x/1.jpg", "caption": "other", "key": "000000000"}'),
    ("000000001.json", b'{"url": "http://x/2.jpg", "caption": "two bears"}'),
    ("000000001.jpg", b""),
    ("sub/000000002.txt", b"no json"),
    ("000000003.json", b"{"),
    ("000000004.txt", b"\xff"),
    ("000000005.jpg", b""),
]


def test_webdataset(tmp_path):
    path = tar(tmp_path / "00000.tar", SAMPLES)
    assert recognise_captions(path)[0] == "webdataset"
    assert plain(path, "webdataset") == [
        ("sample 000000000", "http://x/1.jpg", None, "a bear"),
        ("sample 000000001", "http://x/2.jpg", None, "two bears"),
        ("sample sub/000000002", "sub/000000002", None, "no json"),
        ("sample 000000003", "its .json is not JSON"),
        ("sample 000000004", "invalid UTF-8"),
        ("sample 000000005", "no caption"),
    ]


@pytest.mark.parametrize("members", range(1, len(SAMPLES)))
@pytest.mark.parametrize("inside", [0, 512, 520])
def test_a_cut_tar_is_never_taken_for_a_whole_one(tmp_path, members, inside):
    """At the edge of a member, inside a header, inside data."""
    whole = tar(tmp_path / "whole.tar", SAMPLES).read_bytes()
    end = sum(512 + -(-len(data) // 512) * 512 for _, data in SAMPLES[:members])
    path = write(tmp_path, "cut.tar", whole[: end + inside])
    (last,) = plain(path, "webdataset")[-1:]
    assert len(last) == 2
    assert "samples may be missing" in last[1]


VCR = {
    "img_fn": "m/0001.jpg",
    "annot_id": "train-0",
    "objects": ["person", "person", "dog"],
    "question": ["Why", "is", [0, 1], "near", [2], "?"],
    "answer_choices": [["No", "."], ["They", "like", [2], "."]],
    "answer_label": 1,
    "rationale_choices": [[[0], "smiles", "."], ["x"]],
    "rationale_label": 0,
}


def test_vcr(tmp_path):
    test = {key: value for key, value in VCR.items() if not key.endswith("label")}
    wrong = [VCR | change for change in ({"question": [[7]]}, {"question": [[-1]]}, {"annot_id": "7"}, {"annot_id": 7})]
    path = write(tmp_path, "train.jsonl", jsonl(VCR, test, *wrong))
    assert recognise_captions(path)[0] == "vcr"
    row, *bad = captions.read(path, "vcr")
    assert row.caption == "Why is Jody Avery near dog ? They like dog . Jody smiles ."
    assert (row.image_id, row.caption_id) == ("m/0001.jpg", "train-0")
    first, second = row.segments
    assert (row.caption[first:second], row.caption[second:]) == ("They like dog . ", "Jody smiles .")
    assert len(bad) == 5
    assert all("labels (the test split has none)" in reject.reason for reject in bad)


def test_vcr_is_worded_as_the_released_reader_words_it(shared, tmp_path):
    """The word pieces of question and right answer are those of the released batch, but for the names it draws."""
    files = shared / "parity/readers"
    items = [json.loads(line) for line in (files / "val.jsonl").read_text().splitlines()]
    path = write(tmp_path, "val.jsonl", jsonl(*(item | {"img_fn": item["img_id"]} for item in items)))
    tokenizer = load_tokenizer(shared / "data/vocab/bert-base-uncased-vocab.txt")
    with np.load(files / "vcr_batch_qa.npz") as arrays:
        token_ids = arrays["arr_0"].squeeze(2).reshape(len(items), 4, -1)
    cls, sep = (tokenizer.token_to_id(piece) for piece in ("[CLS]", "[SEP]"))
    for item, row, released in zip(items, captions.read(path, "vcr"), token_ids, strict=True):
        first, second = row.segments
        shown = [
            " ".join("casey" if word in PEOPLE else word for word in text.split())  # the only name that it could draw
            for text in (row.caption[:first], row.caption[first:second])
        ]
        question, answer = (tokenizer.encode(text, add_special_tokens=False).ids for text in shown)
        expected = [cls, *question, sep, *answer, sep]
        assert released[item["answer_label"]][: len(expected)].tolist() == expected


def test_a_large_json_is_read_in_little_memory(tmp_path):
    path = tmp_path / "captions.json"
    with path.open("w") as stream:
        stream.write('{"images": [], "annotations": [')
        stream.writelines(f'{{"image_id": {n}, "id": {n}, "caption": "{"a bear " * 20}"}},\n' for n in range(60_000))
        stream.write('{"image_id": 0, "id": 0, "caption": "x"}]}')
    tracemalloc.start()
    count = sum(1 for _ in captions.read(path, "coco"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60_001
    assert peak < path.stat().st_size / 4
