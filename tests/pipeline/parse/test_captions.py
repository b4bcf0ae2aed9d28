"""How formats are recognised, and which captions are taken."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.parse import captions
from pipeline.parse.captions import MAX_WORDS, CaptionRow
from pipeline.parse.recognition import recognise_captions
from tests.pipeline.parse.sources import COCO, jsonl, plain, write


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_valid_comes_through_and_nothing_is_dropped(tmp_path_factory, image_id, caption):
    path = write(tmp_path_factory.mktemp("t"), "a.jsonl", jsonl({"image_id": image_id, "caption": caption}))
    (row,) = captions.read(path, "jsonl")
    if image_id and caption.strip():
        assert row == CaptionRow(str(path), "line 1", image_id, None, caption.strip())
    else:
        assert row == Reject(str(path), "line 1", "empty caption" if image_id else "no image_id")


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(COCO, indent=2),
        json.dumps({"annotations": COCO["annotations"]}),
        "\n  " + json.dumps(COCO, indent=2),
    ],
)
def test_coco_is_recognised_however_it_is_laid_out(tmp_path, content):
    assert recognise_captions(write(tmp_path, "a", content))[0] == "coco"


@pytest.mark.parametrize("content", ["caption without a URL\n", "a,b,c\n", "a\tb\n", "a\thttp://x\tb\n", "1"])
def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path, content):
    path = write(tmp_path, "a.txt", content)
    with pytest.raises(
        InputError,
        match=r"--columns caption=NAME \(formats are coco, conceptual-captions, conceptual-12m, karpathy, json, jsonl",
    ) as error:
        recognise_captions(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", ["", "\n", "  \n \n"])
def test_an_empty_file_is_refused(tmp_path, content):
    with pytest.raises(InputError, match="empty"):
        recognise_captions(write(tmp_path, "a.txt", content))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.json: cannot be read"):
        recognise_captions(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image_id": "a", "caption": ""}, "empty caption"),
        ({"image_id": "a", "caption": " \t "}, "empty caption"),
        ({"image_id": "a", "caption": "x " * (MAX_WORDS + 1)}, f"caption of more than {MAX_WORDS} words"),
        ({"image_id": "a"}, "no caption"),
        ({"image_id": "a", "caption": None}, "no caption"),
        ({"image_id": "a", "caption": []}, "no caption"),
        ({"image_id": "a", "caption": {}}, "no caption"),
        ({"image_id": "a", "caption": "x" * 20_001}, "caption of more than 20000 characters"),
        ({"caption": "x"}, "no image_id"),
        ({"image_id": "", "caption": "x"}, "no image_id"),
        ({"image_id": True, "caption": "x"}, "no image_id"),
        ({"image_id": 1.5, "caption": "x"}, "image_id is 1.5, not a name"),
        ({"image_id": {}, "caption": "x"}, "no image_id"),
        ({"image_id": "a", "caption_id": "", "caption": "x"}, "no caption_id"),
        ({"image_id": "a", "caption_id": False, "caption": "x"}, "no caption_id"),
        ([1], "not a JSON object"),
        ("text", "not a JSON object"),
    ],
)
def test_a_bad_row_is_rejected_with_position_and_reason(tmp_path, row, reason):
    good = {"image_id": "a", "caption": "x"}
    path = write(tmp_path, "a.jsonl", jsonl(good, row, good))
    assert plain(path, "jsonl")[1] == ("line 2", reason)
    assert [row[0] for row in plain(path, "jsonl")] == ["line 1", "line 2", "line 3"]
    if isinstance(row, dict) and "caption_id" in row:
        row = {"id" if name == "caption_id" else name: value for name, value in row.items()}
    path = write(tmp_path, "a.json", json.dumps({"annotations": [good, row]}))
    assert plain(path, "coco")[1] == ("annotations[1]", reason)


def test_a_caption_of_exactly_the_most_words_is_kept(tmp_path):
    path = write(tmp_path, "a.jsonl", jsonl({"image_id": "a", "caption": "x " * MAX_WORDS}))
    assert isinstance(next(captions.read(path, "jsonl")), CaptionRow)
