"""Mentions of one thing become one object."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from parsers.neural.coreference import join_sentences
from parsers.neural.nouns import is_kind_of, is_plural, singularize


def read(*sentences):
    """Joins sentences of "[a thing](attribute)" marks: every bracket is an object; a colour in it is its attribute."""
    text, parts = "", []
    for sentence in sentences:
        start, plain, objects, attributes = len(text), "", [], []
        for piece in sentence.replace("]", "[").split("["):
            if piece.startswith("="):
                *adjectives, noun = piece[1:].split(" ")
                for adjective in adjectives:
                    attributes.append(Attribute(len(objects), adjective, Span(len(plain), len(plain) + len(adjective))))
                    plain += adjective + " "
                objects.append(Object(noun.lower(), Span(len(plain), len(plain) + len(noun))))
                plain += noun
            else:
                plain += piece
        parts.append((start, SceneGraph(plain, tuple(objects), tuple(attributes))))
        text += plain + " "
    graph = join_sentences(text, parts)
    return [(thing.lemma, [text[s.start : s.end] for s in (thing.span, *thing.mentions)]) for thing in graph.objects]


@pytest.mark.parametrize(
    ("sentences", "things"),
    [
        (["A [=dog] sits on [=grass].", "[=It] has a [=collar]."], [["dog", "It"], ["grass"], ["collar"]]),
        (["A [=dog] sits.", "The [=dog] barks."], [["dog", "dog"]]),
        (["A [=dog] sits.", "Another [=dog] barks."], [["dog"], ["dog"]]),
        (["A [=dog] sits.", "A [=dog] barks."], [["dog"], ["dog"]]),
        (["Two [=dogs] sit.", "The [=dog] barks."], [["dogs"], ["dog"]]),
        (["A [=dachshund] sits.", "The [=animal] barks."], [["dachshund", "animal"]]),
        (["A [=bedroom] is dark.", "The [=room] is small."], [["bedroom", "room"]]),
        (["A [=red car] stands.", "The [=blue car] moves."], [["car"], ["car"]]),
        (["A [=red car] stands.", "The [=red car] moves."], [["car", "car"]]),
        (["A [=woman] and a [=man] walk.", "[=She] waves and [=he] smiles."], [["woman", "She"], ["man", "he"]]),
        (["[=Horses] graze near a [=barn].", "[=They] are calm."], [["Horses", "They"], ["barn"]]),
        (["A [=surfer] rides a [=wave].", "The [=man] smiles."], [["surfer", "man"], ["wave"]]),
        (["A [=girl] runs.", "The [=boy] smiles."], [["girl"], ["boy"]]),
        (["[=It] is dark."], []),
    ],
)
def test_mentions_of_one_thing_are_joined(sentences, things):
    assert [mentions for _, mentions in read(*sentences)] == things


def test_one_of_a_group_is_called_as_the_group():
    found = read("Two [=men] stand by a [=wall].", "[=One] of them smiles, and the [=other] reads.")
    assert found == [("men", ["men"]), ("wall", ["wall"]), ("man", ["One"]), ("man", ["other"])]


def test_what_is_said_of_a_pronoun_is_said_of_its_thing():
    first = SceneGraph("A dog sits.", (Object("dog", Span(2, 5)),))
    objects = (Object("it", Span(0, 2)), Object("hat", Span(14, 17)))
    second = SceneGraph(
        "It has a nice hat.", objects, (Attribute(1, "nice", Span(9, 13)),), (Relation(0, 1, "have", (Span(3, 6),)),)
    )
    text = f"{first.caption} {second.caption}"
    graph = join_sentences(text, [(0, first), (12, second)])
    assert [thing.lemma for thing in graph.objects] == ["dog", "hat"]
    assert graph.relations == (Relation(0, 1, "have", (Span(15, 18),)),)
    assert [text[a.span.start : a.span.end] for a in graph.attributes] == ["nice"]


def relate(*sentences):
    """Joins sentences, each a text, its nouns, and its relations as (subject, name, object)."""
    text, parts = "", []
    for sentence, nouns, relations in sentences:
        spans = [Span(sentence.index(noun), sentence.index(noun) + len(noun)) for noun in nouns]
        objects = tuple(map(Object, nouns, spans))
        triples = tuple(Relation(nouns.index(a), nouns.index(b), name, ()) for a, name, b in relations)
        parts.append((len(text), SceneGraph(sentence, objects, (), triples)))
        text += sentence + " "
    graph = join_sentences(text, parts)
    names = [thing.lemma for thing in graph.objects]
    mentions = {thing.lemma: [text[s.start : s.end] for s in thing.spans] for thing in graph.objects}
    return [(names[r.subject], r.lemma, names[r.object], r.spans) for r in graph.relations], mentions


def test_a_pronoun_before_a_noun_says_whose_it_is():
    relations, mentions = relate(("A dog lies here.", ["dog"], []), ("Its tail is long.", ["tail"], []))
    assert relations == [("dog", "have", "tail", ())]
    assert mentions["dog"] == ["dog", "Its"]


def test_an_owner_is_the_one_that_the_pronoun_fits():
    first = ("A woman and a man walk.", ["woman", "man"], [])
    relations, _ = relate(first, ("His hat is red.", ["hat"], []), ("Her coat is blue.", ["coat"], []))
    assert relations == [("woman", "have", "coat", ()), ("man", "have", "hat", ())]


def test_what_else_relates_owner_and_thing_stays_alone():
    holds = ("A woman holds her phone.", ["woman", "phone"], [("woman", "hold", "phone")])
    relations, mentions = relate(holds, ("It is sunny.", [], []))
    assert relations == [("woman", "hold", "phone", ())]
    assert mentions["woman"] == ["woman", "her"]


def test_a_pronoun_whose_owner_is_not_named_says_nothing():
    assert relate(("Rain falls.", ["Rain"], []), ("Her coat is wet.", ["coat"], []))[0] == []


@given(st.lists(st.sampled_from(["A [=dog] sits.", "[=It] runs.", "The [=animal] eats a [=bone].", "[=They] rest."])))
def test_every_mention_is_kept_once(sentences):
    spoken = sum(sentence.count("[=") for sentence in sentences)
    found = [mention for _, mentions in read(*sentences) for mention in mentions]
    assert len(found) <= spoken
    assert sum(mention != "It" for mention in found) == spoken - sum("[=It]" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("plural", "singular"),
    [("dogs", "dog"), ("women", "woman"), ("berries", "berry"), ("benches", "bench"), ("glass", "glass"),
     ("bus", "bus"), ("jeans", "jeans"), ("people", "people"), ("boxes", "box"), ("shoes", "shoe"),
     ("knives", "knife")],
)  # fmt: skip
def test_singulars(plural, singular):
    assert singularize(plural) == singular
    assert is_plural("people")
    assert not is_plural("glass")


def test_kinds():
    assert is_kind_of("animal", "dachshund")
    assert is_kind_of("board", "skateboard")
    assert not is_kind_of("animal", "car")
    assert not is_kind_of("dog", "dog")
