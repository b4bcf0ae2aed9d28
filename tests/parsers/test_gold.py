"""Gold files, and graphs as triples."""

import json
from pathlib import Path

import pytest

from parsers.command import InputError
from parsers.gold import GoldCaption, list_objects, list_triples, parse_triples, read_gold, remove_numbers
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span


@pytest.mark.parametrize(
    ("text", "triples"),
    [
        ("( man , wear , hat ) , ( hat , is , red )", {("man", "wear", "hat"), ("hat", "is", "red")}),
        ("( living room )", {("living room",)}),
        ("( hat , red )", {("hat", "is", "red")}),
        ("( sign , on , post , street )", {("sign", "on post", "street")}),
        ("( a , on , b ) , ( a , on , b )", {("a", "on", "b")}),
        ("(man,hold , cup )", {("man", "hold", "cup")}),
        ("dog", {("dog",)}),
        ("( , is , red )", set()),
        ("", set()),
    ],
)
def test_triples_are_read_as_published_files_write_them(text, triples):
    assert set(parse_triples(text)) == triples


def test_a_csv_with_commas_in_quotes(tmp_path):
    path = tmp_path / "gold.csv"
    path.write_text('image_id,caption,scene_graph\n1,"a man, sitting","( man , is , sitting )"\n')
    assert read_gold(path) == [GoldCaption("a man, sitting", (("man", "is", "sitting"),))]


def test_json_lines(tmp_path):
    path = tmp_path / "gold.jsonl"
    path.write_text(json.dumps({"caption": "a red hat", "triples": [["hat", "is", "red"]]}) + "\n\n")
    assert read_gold(path) == [GoldCaption("a red hat", (("hat", "is", "red"),))]


def test_blanks_in_json_triples_are_normal_ones(tmp_path):
    path = tmp_path / "gold.jsonl"
    path.write_text(json.dumps({"caption": "a red hat", "triples": [[" fire\n hydrant ", "is", "red"]]}))
    assert read_gold(path)[0].triples == (("fire hydrant", "is", "red"),)


@pytest.mark.parametrize(
    "line",
    [
        '{"caption": 3, "triples": []}',
        "{",
        '{"caption": "a", "triples": [["b", "c"]]}',
        "[]",
        '{"caption": "a", "triples": [["b", " ", "c"]]}',
    ],
)
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "gold.jsonl"
    path.write_text('{"caption": "a", "triples": []}\n' + line + "\n")
    with pytest.raises(InputError, match=r"gold\.jsonl:2"):
        read_gold(path)


def test_a_csv_without_the_columns_is_refused(tmp_path):
    path = tmp_path / "gold.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="caption and scene_graph"):
        read_gold(path)


def test_a_csv_row_without_a_graph_is_named(tmp_path):
    path = tmp_path / "gold.csv"
    path.write_text('caption,scene_graph\n"two\nlines","( man )"\na dog\n')
    with pytest.raises(InputError, match=r"gold\.csv:4: expected a caption and a scene graph"):
        read_gold(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for name in ("nowhere.csv", "nowhere.jsonl"):
        with pytest.raises(InputError, match=rf"{name}: the gold graphs cannot be read"):
            read_gold(tmp_path / name)


def test_a_graph_as_triples():
    caption = "a red hat on a man beside a dog"
    objects = (Object("hat", Span(6, 9)), Object("man", Span(15, 18)), Object("dog", Span(28, 31)))
    graph = SceneGraph(caption, objects, (Attribute(0, "red", Span(2, 5)),), (Relation(0, 1, "on", (Span(10, 12),)),))
    assert list_triples(graph) == (("hat", "is", "red"), ("hat", "on", "man"), ("dog",))


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("a\nb,( b )\n", 2),
        ("a,( a ),more\n", 2),
        ('a,( a )\nb,"( b )\nc,( c )\n', 3),
        ('a,( a )\n"b,( b )\nc,( c )\nd",( d )\n', 3),
        ('a,( a )\n"b" c,( b )\n', 3),
        (f"a,{'x' * 200_000}\n", 2),
    ],
)
def test_a_bad_row_of_csv_is_named(tmp_path, rows, line):
    path = tmp_path / "gold.csv"
    path.write_text("caption,scene_graph\n" + rows)
    with pytest.raises(InputError, match=rf"gold\.csv:{line}: "):
        read_gold(path)


@pytest.mark.parametrize(
    "triples", ['["abc"]', '"abc"', '[[["a"]]]', "[[null]]", '{"a": 1}', "[" * 100_000, "9" * 5_000]
)
def test_triples_that_are_no_lists_of_texts_are_named(tmp_path, triples):
    path = tmp_path / "gold.jsonl"
    path.write_text(f'{{"caption": "a", "triples": {triples}}}\n')
    with pytest.raises(InputError, match=r"gold\.jsonl:1: "):
        read_gold(path)


def test_splits_and_mentions(tmp_path):
    path = tmp_path / "gold.jsonl"
    rows = [
        {"caption": "a dog", "triples": [["dog"]], "split": "train", "mentions": {"dog": [[0, 5]]}},
        {"caption": "a cat", "triples": [["cat"]], "split": "test"},
        {"caption": "a cow", "triples": [["cow"]]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [caption.caption for caption in read_gold(path)] == ["a dog", "a cat", "a cow"]
    assert [caption.caption for caption in read_gold(path, "train")] == ["a dog", "a cow"]
    assert read_gold(path)[0].mentions == {"dog": (Span(0, 5),)}


@pytest.mark.parametrize("mentions", [[], {"dog": 3}, {"dog": [[0]]}, {"dog": [[0, 9]]}, {"dog": [["a", "b"]]}])
def test_bad_mentions_are_named(tmp_path, mentions):
    path = tmp_path / "gold.jsonl"
    path.write_text(json.dumps({"caption": "a dog", "triples": [["dog"]], "mentions": mentions}))
    with pytest.raises(InputError, match=r"gold\.jsonl:1: .*mention"):
        read_gold(path)


def test_things_of_one_name_lose_their_numbers():
    triples = (("tree", "next to", "tree:1"), ("tree:1", "is", "3:1"), ("tree:1",), ("tree",))
    assert remove_numbers(triples) == (("tree", "next to", "tree"), ("tree", "is", "3:1"), ("tree",))


def test_our_own_gold_files():
    for name, count, tested in (("gold_captions", 797, 200), ("gold_paragraphs", 602, 51)):
        path = Path(__file__).with_name(f"{name}.jsonl")
        gold = read_gold(path)
        assert len(gold) == len({caption.caption for caption in gold}) == count
        assert sum(caption.split == "test" for caption in gold) == tested
        assert sum(caption.split == "train" for caption in gold) == count - tested
        for caption in gold:
            assert (
                all(name in caption.mentions for t in caption.triples for name in list_objects(t))
                or not caption.mentions
            )
