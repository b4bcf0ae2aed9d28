"""The library's text nodes are found again in the caption."""

import pytest


def words(graph, node):
    return graph.caption[node.span.start : node.span.end]


def relations(graph):
    return [
        (
            graph.objects[relation.subject].lemma,
            relation.lemma,
            graph.objects[relation.object].lemma,
            [graph.caption[span.start : span.end] for span in relation.spans],
        )
        for relation in graph.relations
    ]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A woman is playing the piano", [("woman", "play", "piano", ["playing"])]),
        ("A woman is playing the piano in the room", [("woman", "play", "piano"), ("woman", "in", "room")]),
        ("a cat on a mat", [("cat", "on", "mat", ["on"])]),
        ("The piano is played by a woman", [("woman", "play", "piano", ["played"])]),
        ("A piano next to a woman", [("piano", "next to", "woman", ["next to"])]),
        ("a man standing next to a piano", [("man", "next to", "piano", ["next to"])]),
        # The library's own label drops the last word of a phrase; the span has all of it.
        ("A woman in front of a piano", [("woman", "in front", "piano", ["in front of"])]),
        ("a man and a woman hold a cup", [("man", "hold", "cup", ["hold"]), ("woman", "hold", "cup", ["hold"])]),
    ],
)
def test_relations_and_their_words(sng, caption, expected):
    found = relations(sng.parse([caption])[0])
    assert [relation[: len(wanted)] for relation, wanted in zip(found, expected, strict=True)] == expected


def test_the_words_of_a_repeated_preposition_are_those_next_to_the_object(sng):
    (graph,) = sng.parse(["a dog on a mat and a cat on a chair"])
    starts = {graph.objects[relation.object].lemma: relation.spans[0].start for relation in graph.relations}
    assert starts == {"mat": 6, "chair": 25}


def test_modifiers_become_attributes_but_determiners_do_not(sng):
    (graph,) = sng.parse(["the two big black dogs and a dog"])
    found = [(graph.objects[a.object].lemma, a.lemma, words(graph, a)) for a in graph.attributes]
    assert found == [("dog", "two", "two"), ("dog", "big", "big"), ("dog", "black", "black")]
    assert {attribute.object for attribute in graph.attributes} == {0}


def test_coordinated_and_repeated_adjectives_have_their_own_places(sng):
    (graph,) = sng.parse(["a black and white dog with a black and white cat"])
    assert [(a.object, words(graph, a), a.span.start) for a in graph.attributes] == [
        (0, "black", 2),
        (0, "white", 12),
        (1, "black", 29),
        (1, "white", 39),
    ]


def test_the_name_covers_the_compound(sng):
    (graph,) = sng.parse(["The Fire hydrant is on the street"])
    assert [(node.lemma, words(graph, node)) for node in graph.objects] == [
        ("fire hydrant", "Fire hydrant"),
        ("street", "street"),
    ]


def test_noun_phrases_without_a_relation_stay(sng):
    assert [node.lemma for node in sng.parse(["the dog, the cat"])[0].objects] == ["dog", "cat"]
