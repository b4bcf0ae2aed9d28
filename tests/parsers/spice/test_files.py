"""Files of references and candidates."""

import json

import pytest

from parsers.command import InputError
from parsers.spice.files import read_captions

RECORDS = [{"image_id": 7, "caption": "a dog"}, {"image_id": 9, "caption": "a cat"}, {"image_id": 7, "caption": ""}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("coco.json", json.dumps({"images": [{"id": 7}, {"id": 9}, {"id": 11}], "annotations": RECORDS})),
        ("results.json", json.dumps(RECORDS)),
        ("map.json", json.dumps({"7": ["a dog", ""], "9": "a cat"})),
        ("lines.jsonl", "".join(json.dumps(record) + "\n\n" for record in RECORDS)),
        ("lists.jsonl", '\ufeff{"image_id": "7", "captions": ["a dog", ""]}\r\n{"image_id": 9, "caption": "a cat"}'),
    ],
)
def test_every_layout_is_read(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_captions(tmp_path / name) == {"7": ["a dog", ""], "9": ["a cat"]}


def test_a_line_ends_where_json_lines_end(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"image_id": 1, "caption": "a\u2028dog"}\n', encoding="utf-8")
    assert read_captions(path) == {"1": ["a\u2028dog"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "", "a.json: is not JSON"),
        ("a.json", "[" * 100_000, "a.json: is not JSON"),
        ("a.json", '{"image_id": 1}\n{"image_id": 2}', "ends with .jsonl"),
        ("a.json", "[]", "holds no captions"),
        ("a.json", "{}", "holds no captions"),
        ("a.json", '"a dog"', "expected a list of records"),
        ("a.json", '{"annotations": {"7": "a dog"}}', "expected a list of records"),
        ("a.json", '[{"image_id": 1, "caption": "a"}, ["a dog"]]', "record 1: expected `image_id` and `caption`"),
        ("a.json", '[{"id": 1, "caption": "a"}]', "record 0: expected `image_id`"),
        ("a.json", '[{"image_id": 1}]', "record 0: expected `image_id`"),
        ("a.json", '[{"image_id": 1, "caption": null}]', "record 0: expected a caption"),
        ("a.json", '[{"image_id": true, "caption": "a"}]', "record 0: `image_id` is true"),
        ("a.json", '[{"image_id": 1.5, "caption": "a"}]', "record 0: `image_id` is 1.5"),
        ("a.json", '{"7": ["a dog", 3]}', "image 7: expected a caption"),
        ("a.jsonl", '{"image_id": 1, "caption": "a"}\n{"image_id": 1,', "a.jsonl:2: is not JSON"),
        ("a.jsonl", '{"image_id": 1, "captions": "a"}', "a.jsonl:1: expected a caption"),
    ],
)
def test_another_layout_is_an_error_with_its_place(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        read_captions(tmp_path / name)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json: the captions cannot be read"):
        read_captions(tmp_path / "nowhere.json")
    (tmp_path / "latin.json").write_bytes(b'{"7": "caf\xe9"}')
    with pytest.raises(InputError, match=r"latin\.json: the captions cannot be read"):
        read_captions(tmp_path / "latin.json")
