"""Paragraphs with gold graphs become aligned sentences."""

import pytest

from parsers.gold import GoldCaption
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from parsers.lemmatizer import Lemmatizer
from parsers.train.alignment import Aligner
from parsers.train.paragraphs import ParagraphCutter


def spans_of(text, *mentions):
    found, end = [], 0
    for mention in mentions:
        start = text.index(mention, end)
        end = start + len(mention)
        found.append(Span(start, end))
    return tuple(found)


TEXT = "A brown dog sits on the grass. It has a red collar, and the animal looks at its calm owner, a sense of peace."
PARAGRAPH = GoldCaption(
    TEXT,
    (("dog", "is", "brown"), ("dog", "sit on", "grass"), ("dog", "have", "collar"), ("collar", "is", "red"),
     ("dog", "look at", "owner")),
    {"dog": spans_of(TEXT, "A brown dog", "It", "the animal", "its"), "grass": spans_of(TEXT, "the grass"),
     "collar": spans_of(TEXT, "a red collar"), "owner": spans_of(TEXT, "calm owner")},
)  # fmt: skip


def no_rules(captions):
    return [SceneGraph(caption) for caption in captions]


@pytest.fixture(scope="module")
def align():
    return Aligner(Lemmatizer())


def describe(example):
    forms, graph = example.words.forms, example.graph
    return (
        {" ".join(forms[p.first : p.last + 1]) for p, _ in graph.objects},
        {(forms[a.phrase.last], forms[a.object]) for a in graph.attributes},
        {(forms[r.subject], r.label, forms[r.object]) for r in graph.relations},
        {forms[i] for i in example.hidden},
    )


def test_each_sentence_gets_what_it_says(align):
    first, second = ParagraphCutter(align, lambda words: words, no_rules)(PARAGRAPH)
    assert describe(first) == ({"dog", "grass"}, {("brown", "dog")}, {("dog", "sit on", "grass")}, set())
    objects, attributes, relations, _ = describe(second)
    assert objects == {"animal", "collar", "owner"}, "a sentence that names a thing has no pronouns for it"
    assert attributes == {("red", "collar")}
    assert relations == {("animal", "have", "collar"), ("animal", "look at", "owner")}


def test_what_the_rules_find_and_the_gold_graph_lacks_is_hidden(align):
    def rules(captions):
        second = captions[1]
        places = {word: Span(second.index(word), second.index(word) + len(word)) for word in
                  ("sense", "peace", "calm", "owner", "of", "collar", "red")}  # fmt: skip
        objects = tuple(Object(word, places[word]) for word in ("sense", "peace", "owner", "collar"))
        attributes = (Attribute(2, "calm", places["calm"]), Attribute(3, "red", places["red"]))
        relations = (Relation(1, 0, "have", (places["of"],)), Relation(2, 3, "on", ()))
        return [SceneGraph(captions[0]), SceneGraph(second, objects, attributes, relations)]

    _, second = ParagraphCutter(align, lambda words: words, rules)(PARAGRAPH)
    objects, attributes, relations, hidden = describe(second)
    assert hidden == {"sense", "peace", "calm"}
    assert objects == {"animal", "collar", "owner", "sense", "peace"}
    assert ("calm", "owner") in attributes
    assert ("peace", "have", "sense") in relations
    assert ("owner", "on", "collar") not in relations, "between things that are there, the gold graph is complete"


def test_one_of_a_group_is_the_word_one(align):
    text = "Two men wait. One of them waves."
    gold = GoldCaption(
        text,
        (("man", "is", "2"), ("man:1", "is", "waving")),
        {"man": spans_of(text, "Two men"), "man:1": spans_of(text, "One of them")},
    )
    first, second = ParagraphCutter(align, lambda words: words, no_rules)(gold)
    assert describe(first)[:2] == ({"men"}, {("two", "men")})
    assert describe(second)[:2] == ({"one"}, {("waves", "one")})
