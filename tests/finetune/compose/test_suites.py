"""Suites in their own files: what becomes of each format, and of damaged files."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.compose.suites import CaptionPair, read_suite
from parsers.command import InputError

ROW = {"filename": "000000000042.jpg", "caption": "a cat on a dog", "negative_caption": "a dog on a cat"}
ARO = {
    "image_id": "7", "image_path": "7.jpg", "bbox_x": 10, "bbox_y": 20, "bbox_w": 30.5, "bbox_h": 40,
    "true_caption": "the cat is on the dog", "false_caption": "the dog is on the cat",
}  # fmt: skip
VALSE = {
    "dataset": "coco", "image_file": "COCO_val2014_000000000042.jpg", "linguistic_phenomena": "actions",
    "caption": "A man runs.", "foil": "A man sits.", "mturk": {"foil": 0, "caption": 3, "other": 0},
}  # fmt: skip


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def test_sugar_crepe_takes_the_kind_from_the_name_of_the_file(tmp_path):
    write(tmp_path / "swap_obj.json", {"0": ROW, "2": {**ROW, "caption": "b"}})
    write(tmp_path / "add_att.json", {"0": ROW})
    (tmp_path / "README.md").write_text("not a suite")
    suite = read_suite(tmp_path)
    assert [(pair.kind, pair.pair_id) for pair in suite.pairs] == [
        ("add_att", "0"),
        ("swap_obj", "0"),
        ("swap_obj", "2"),
    ]
    assert suite.pairs[1] == CaptionPair("0", "swap_obj", *ROW.values())
    assert read_suite(tmp_path / "swap_obj.json").pairs == suite.pairs[1:]


def test_the_half_of_sugar_crepe_is_read(shared):
    suite = read_suite(shared / "data/compositional/sugar-crepe")
    assert len(suite.pairs) == 3755
    assert {pair.kind for pair in suite.pairs} == {
        *("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
    }
    assert suite.left_out == 0


def test_aro_shows_the_part_around_both_objects(tmp_path):
    relation, attribution = {**ARO, "relation_name": "on"}, {**ARO, "attributes": ["red", "small"]}
    (pair,) = read_suite(write(tmp_path / "visual_genome_relation.json", [relation])).pairs
    assert pair == CaptionPair("0", "on", "7.jpg", ARO["true_caption"], ARO["false_caption"], (10, 20, 40.5, 60))
    (pair,) = read_suite(write(tmp_path / "visual_genome_attribution.json", [attribution])).pairs
    assert pair.kind == "red_small"


def test_valse_leaves_out_what_the_annotators_did_not_confirm(tmp_path):
    doubtful = {**VALSE, "mturk": {"foil": 1, "caption": 1, "other": 1}}
    several = {key: value for key, value in VALSE.items() if key != "foil"} | {"caption": ["a"], "foils": ["b", "c"]}
    suite = read_suite(write(tmp_path / "actions.json", {"a": VALSE, "b": doubtful, "c": several}))
    assert [pair.pair_id for pair in suite.pairs] == ["a", "c"]
    assert suite.left_out == 1
    assert suite.pairs[0] == CaptionPair("a", "actions", VALSE["image_file"], "A man runs.", "A man sits.")
    assert suite.pairs[1].captions == ("a", "b")


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=20)


@given(st.lists(st.tuples(TEXTS.filter(bool), TEXTS, TEXTS, TEXTS.filter(bool)), min_size=1, max_size=5))
def test_own_pairs_survive_csv_and_json_lines(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("own")
    names = ("image", "caption", "negative_caption", "kind")
    with (folder / "own.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerows([names, *rows])
    (folder / "own.jsonl").write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    for name in ("own.csv", "own.jsonl"):
        pairs = read_suite(folder / name).pairs
        assert [(pair.image, *pair.captions, pair.kind) for pair in pairs] == rows


def test_own_pairs_may_have_no_kind_and_numbers_as_images(tmp_path):
    (tmp_path / "mine.jsonl").write_text(json.dumps({"image": 42, "caption": "a", "negative_caption": "b"}) + "\n")
    assert read_suite(tmp_path / "mine.jsonl").pairs == (CaptionPair("1", "mine", "42", "a", "b"),)
    (tmp_path / "mine.csv").write_text("\ufeffimage,caption,negative_caption\n42,a,b\n", encoding="utf-8")
    assert read_suite(tmp_path / "mine.csv").pairs == (CaptionPair("2", "mine", "42", "a", "b"),)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "is no JSON"),
        ("a.json", "{}", "holds no pairs"),
        ("a.json", "[]", "holds no pairs"),
        ("a.json", "7", "is not a suite in the layout of SugarCrepe, ARO or VALSE"),
        ("a.json", '{"0": {"filename": "a.jpg", "caption": "a"}}', "negative_caption"),
        ("a.json", '{"0": {"filename": "a.jpg", "caption": null, "negative_caption": "b"}}', "None is no text"),
        ("a.json", json.dumps([{**ARO, "relation_name": "on", "bbox_w": 0}]), "0.0 x 40.0 pixels"),
        ("a.json", json.dumps([ARO]), "attributes"),
        ("a.json", json.dumps({"a": {**VALSE, "mturk": {"caption": 0}}}), "holds no pairs"),
        ("a.json", json.dumps({"a": {**VALSE, "foil": []}}), "list index"),
        ("a.jsonl", '{"image": "1", "caption": "a"}\n', r"\(line 1\): KeyError\('negative_caption'\)"),
        ("a.jsonl", "[1]\n", r"\(line 1\)"),
        ("a.csv", "image,caption\n1,a\n", r"\(line 2\): KeyError\('negative_caption'\)"),
        ("a.csv", "image,caption,negative_caption\n1,a\n", "None is no text"),
        ("a.csv", 'image,caption,negative_caption\n1,"a,b\n', "is no CSV"),
        ("a.csv", "", "holds no pairs"),
    ],
)
def test_what_is_no_suite_is_refused_in_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_suite(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_a_folder_without_files_of_a_suite_is_refused(tmp_path):
    with pytest.raises(InputError, match="name the files of a suite"):
        read_suite(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_suite(tmp_path / "missing.json")
