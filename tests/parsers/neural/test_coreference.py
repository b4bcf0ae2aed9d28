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
