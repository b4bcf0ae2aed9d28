"""The words that may take each other's place."""

from itertools import pairwise

from pipeline.negatives.lexicon import FILE, Lexicon, read_lexicon

SMALL = """
# a comment
[objects]
animal: dog = puppy, cat | muddy, sleeping
animal: puppy, kitten
thing: ~bread, ~rice, +cake
thing: -thing, ?lamp
[attributes]
thing: red, blue = navy
[numbers]
two, three
[relations]
any: on > under, near
[actions]
person: sit > stand
[placed]
any: sit = stand
"""


def test_the_example():
    lexicon = Lexicon(SMALL)
    objects = lexicon.objects
    assert objects.alternatives("dog") == ["cat"]
    assert objects.alternatives("puppy") == ["cat", "kitten"]
    assert objects.overlapping("dog") == {"dog", "puppy"}
    assert objects.additions("dog") == ["muddy", "sleeping"]
    assert objects.alternatives("bread") == ["rice"]
    assert objects.alternatives("bread", mass=False) == []
    assert objects.alternatives("cake") == []
    assert objects.alternatives("thing") == ["lamp"]
    assert not objects.may_be_put_in("thing")
    assert objects.last_names == {"lamp"}
    assert lexicon.relations.alternatives("on") == ["under", "near"]
    assert "under" not in lexicon.relations
    assert lexicon.attributes.alternatives("navy", {"thing"}) == ["red"]
    assert lexicon.attributes.alternatives("navy", {"person"}) == []
    assert lexicon.actions.alternatives("sit", {"animal"}) == []


def test_an_object_is_found_by_the_longest_end_of_its_name():
    lexicon = read_lexicon()
    assert lexicon.find_object("City Streets") == "city street"
    assert lexicon.find_object("muddy side-streets") == "street"
    assert lexicon.find_object("men") == "man"
    assert lexicon.find_object("xylem") is None
    assert lexicon.tags_of_object("xylem") == {"thing", "unknown"}
    assert "person" in lexicon.tags_of_object("young man")


def test_a_name_excludes_no_other_name_of_the_same_thing():
    lexicon = read_lexicon()
    for section in (lexicon.objects, lexicon.attributes, lexicon.numbers, lexicon.relations, lexicon.actions):
        for name in section.names:
            assert section.overlapping(name).isdisjoint(section.alternatives(name)), name
            assert " ".join(name.split()) == name


def test_no_line_is_there_twice():
    lines = sorted(line for line in FILE.read_text().splitlines() if line and not line.startswith("#"))
    assert [a for a, b in pairwise(lines) if a == b] == []
