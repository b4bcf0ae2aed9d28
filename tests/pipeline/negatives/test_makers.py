"""Which false captions are made, and which are left out."""

from dataclasses import replace

import pytest

from parsers.graph import Relation
from pipeline.negatives.lexicon import read_lexicon
from pipeline.negatives.makers import make_false_captions
from pipeline.negatives.picture import Picture
from shards.schema import NEGATIVE_KINDS
from tests.pipeline.negatives.captions import falsify, graph_of, span_of


def words_of(false):
    return [false.graph.caption[span.start : span.end] for span in false.spans]


def test_an_object_is_replaced_in_its_number_and_with_its_article():
    found = falsify(graph_of("An elephant next to two dogs.", ["elephant", "dogs"]), "replace_object")
    assert "A zebra next to two dogs." in found
    assert "An elephant next to two horses." in found
    assert words_of(found["An elephant next to two horses."]) == ["horses"]
    assert found["An elephant next to two horses."].graph.objects[1].lemma == "horses"
    assert not any("puppies" in text or "dog next" in text for text in found)


def test_a_synonym_and_what_another_caption_says_are_no_false_objects():
    graph = graph_of("a car on a street", ["car", "street"], (), [(0, "on", 1)])
    assert "a truck on a street" in falsify(graph, "replace_object")
    other = graph_of("Two pickups and a taxi", ["pickups", "taxi"])
    found = falsify(graph, "replace_object", other)
    assert "a bus on a street" in found
    assert not any("truck" in text or "taxi" in text for text in found)


def test_pronouns_go_with_the_gender_of_a_person():
    graph = graph_of("A woman holds her hat and looks at herself", ["woman", "hat"])
    (false,) = [false for text, false in falsify(graph, "replace_object").items() if text.startswith("A man")]
    assert false.graph.caption == "A man holds his hat and looks at himself"
    assert words_of(false) == ["man", "his", "himself"]
    two = graph_of("A woman and a boy hold her hat", ["woman", "boy", "hat"])
    assert not any("A man" in text for text in falsify(two, "replace_object"))


def test_masses_replace_masses():
    graph = graph_of("A plate with some bread", ["plate", "bread"])
    found = falsify(graph, "replace_object")
    assert "A plate with some rice" in found
    assert not any("cookie" in text for text in found)


def test_an_attribute_is_replaced_by_one_that_excludes_it_and_fits_its_object():
    found = falsify(graph_of("an old bus", ["bus"], [(0, "old")]), "replace_attribute")
    assert "a modern bus" in found or "a new bus" in found
    assert not any("young" in text for text in found)
    assert "an elderly man" in falsify(graph_of("a young man", ["man"], [(0, "young")]), "replace_attribute")


def test_a_number_is_replaced_by_a_number_of_several():
    found = falsify(graph_of("Two dogs", ["dogs"], [(0, "Two")]), "replace_number")
    assert "Three dogs" in found
    assert not any("One" in text for text in found)
    assert found["Three dogs"].graph.attributes[0].lemma == "3"
    assert falsify(graph_of("a two story xylem", ["xylem"], [(0, "two")]), "replace_number") == {}


def test_a_relation_is_replaced_by_what_excludes_it():
    graph = graph_of("A cat sitting on a table", ["cat", "table"], (), [(0, "sitting on", 1)])
    found = falsify(graph, "replace_relation")
    assert {"A cat sitting under a table", "A cat standing on a table"} <= found.keys()
    assert words_of(found["A cat sitting under a table"]) == ["under"]
    other = graph_of("a cat stands under it", ["cat"])
    assert not any("standing" in text or "under" in text for text in falsify(graph, "replace_relation", other))


@pytest.mark.parametrize(("side", "other"), [("left of", "right of"), ("right side of", "left side of")])
def test_what_is_at_one_side_is_put_at_the_other(side, other):
    graph = graph_of(f"The ball is to the {side} a cube", ["ball", "cube"], (), [(0, f"is to the {side}", 1)])
    (text,) = falsify(graph, "replace_relation")
    assert text == f"The ball is to the {other} a cube"


@pytest.mark.parametrize("words", ["in a line", "on display", "in this picture"])
def test_nothing_stands_beside_the_way_it_stands(words):
    name = words.split()[-1]
    graph = graph_of(f"Plates {words} near a door", ["Plates", name], (), [(0, words.split()[0], 1)])
    assert falsify(graph, "replace_relation") == {}


def test_a_man_is_not_put_beside_his_clothes_nor_said_to_lack_his_head():
    worn = graph_of("A man in a parka near a door", ["man", "parka"], (), [(0, "in", 1)])
    assert falsify(worn, "replace_relation") == {}
    own = graph_of("A zebra has its neck turned", ["zebra", "neck"], (), [(0, "has", 1)])
    assert falsify(own, "replace_relation") == {}
    company = graph_of("A man with his dog near a door", ["man", "dog"], (), [(0, "with", 1)])
    assert falsify(company, "replace_relation").keys() == {"A man without his dog near a door"}


def test_a_verb_with_an_object_between_it_and_its_preposition_stays():
    graph = graph_of("A lady plays on a court", ["lady", "court"], (), [(0, "plays on", 1)])
    assert "A lady sleeps on a court" in falsify(graph, "replace_relation")
    apart = graph_of("A lady plays tennis on a court", ["lady", "tennis", "court"])
    spans = (span_of(apart.caption, "plays"), span_of(apart.caption, "on"))
    apart = replace(apart, relations=(Relation(0, 2, "play on", spans),))
    assert not any("sleeps" in text for text in falsify(apart, "replace_relation"))


def test_things_do_not_sit_or_stand():
    graph = graph_of("A vase sitting on a table", ["vase", "table"], (), [(0, "sitting on", 1)])
    assert not any("standing" in text for text in falsify(graph, "replace_relation"))


def test_the_last_resort_is_taken_only_where_there_is_nothing_else():
    with_only = graph_of("A bathroom with a sink", ["bathroom", "sink"], (), [(0, "with", 1)])
    assert falsify(with_only, "replace_relation", per_kind=1).keys() == {"A bathroom without a sink"}
    both = graph_of(
        "A man with a sink next to a table", ["man", "sink", "table"], (), [(0, "with", 1), (0, "next to", 2)]
    )
    for key in "abcdefgh":
        (text,) = falsify(both, "replace_relation", per_kind=1, key=key)
        assert "without" not in text


def test_an_added_attribute_excludes_what_another_caption_says():
    graph = graph_of("a bus on a street", ["bus", "street"])
    other = graph_of("the red bus", ["bus"], [(0, "red")])
    found = falsify(graph, "add_attribute", other)
    assert "a blue bus on a street" in found
    assert not any(" red bus" in text for text in found)
    assert not any("blue bus" in text for text in falsify(graph, "add_attribute"))


def test_objects_change_places_where_it_matters():
    graph = graph_of("A man rides a dog", ["man", "dog"], (), [(0, "rides", 1)])
    assert falsify(graph, "swap_relation").keys() == {"A dog rides a man"}
    assert falsify(graph, "swap_object") == {}
    beside = graph_of("A man next to a dog", ["man", "dog"], (), [(0, "next to", 1)])
    assert falsify(beside, "swap_relation") == {}
    assert falsify(graph_of("A man and a dog", ["man", "dog"]), "swap_object") == {}


def test_objects_that_change_places_take_the_number_of_the_place():
    graph = graph_of("A desk with two laptops and a book.", ["desk", "laptops", "book"], [(1, "two")])
    found = falsify(graph, "swap_object")
    assert "A desk with two books and a laptop." in found
    assert [item.lemma for item in found["A desk with two books and a laptop."].graph.objects[1:]] == [
        "books",
        "laptop",
    ]


def test_attributes_change_places():
    graph = graph_of("A red shirt and a white car", ["shirt", "car"], [(0, "red"), (1, "white")])
    found = falsify(graph, "swap_attribute")
    assert found.keys() == {"A white shirt and a red car"}
    (false,) = found.values()
    assert [a.lemma for a in false.graph.attributes] == ["white", "red"]
    same = graph_of("A red car and a white car", ["car", "car#2"], [(0, "red"), (1, "white")])
    assert falsify(same, "swap_attribute") == {}


def test_a_swap_that_another_caption_makes_true_is_left_out():
    graph = graph_of("A red shirt and a white car", ["shirt", "car"], [(0, "red"), (1, "white")])
    other = graph_of("a red car", ["car"], [(0, "red")])
    assert falsify(graph, "swap_attribute", other) == {}


def test_what_other_captions_are_is_not_made_again():
    graph = graph_of("a dog on a bed", ["dog", "bed"], (), [(0, "on", 1)])
    picture = Picture([graph])
    made = make_false_captions(picture, 0, NEGATIVE_KINDS, 3, {}, "k", read_lexicon())
    texts = [false.graph.caption.casefold() for false in made]
    assert len(set(texts)) == len(texts)
    assert graph.caption not in texts


@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_the_key_alone_decides(key):
    graph = graph_of("a dog on a bed", ["dog", "bed"], (), [(0, "on", 1)])
    once, again = (falsify(graph, "replace_object", per_kind=1, key=key) for _ in range(2))
    assert once.keys() == again.keys()
    assert len({next(iter(falsify(graph, "replace_object", per_kind=1, key=str(k)))) for k in range(30)}) > 5


def test_names_of_like_frequency_are_preferred():
    graph = graph_of("a dog", ["dog"])
    names = read_lexicon().objects.alternatives("dog", mass=False)
    like, unlike = names[: len(names) // 2 + 1], names[len(names) // 2 + 1 :]
    often = {"dog": 1000} | dict.fromkeys(like, 900) | dict.fromkeys(unlike, 10)
    found = [falsify(graph, "replace_object", per_kind=1, key=str(k), frequencies=often) for k in range(30)]
    assert {false.graph.objects[0].lemma for one in found for false in one.values()} <= set(like)
    assert len({text for one in found for text in one}) > 3
