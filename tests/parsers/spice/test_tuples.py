"""The tuples of captions and of merged references."""

import pytest

import parsers
from parsers.spice.tuples import check_captions, parse_captions, split_compounds


@pytest.mark.parametrize(
    ("triples", "split"),
    [
        ([("girl", "on", "tennis court")], {("court", "is", "tennis"), ("girl", "on", "court")}),
        ([("tennis court",)], {("court", "is", "tennis"), ("court",)}),
        ([("city street", "is", "busy")], {("street", "is", "city"), ("street", "is", "busy")}),
        ([("red tennis ball", "in", "shopping cart")],
         {("ball", "is", "red tennis"), ("cart", "is", "shopping"), ("ball", "in", "cart")}),
        ([("dog", "is", "dark red"), ("dog", "sit on", "bed")], {("dog", "is", "dark red"), ("dog", "sit on", "bed")}),
    ],
)  # fmt: skip
def test_a_compound_is_a_thing_with_an_attribute(triples, split):
    assert set(split_compounds(triples)) == split


def test_references_are_merged_and_images_keep_their_order():
    gts = {"b": ["a red hat", "a hat on a dog", "a red hat"], "a": [""]}
    second, first = parse_captions(parsers.get("neural"), gts, {"a": ["a cat"], "b": ["a dog"]})
    assert second.candidate == (("dog",),)
    assert set(second.references) == {("hat", "is", "red"), ("hat", "on", "dog")}
    assert (first.candidate, first.references) == ((("cat",),), ())


@pytest.mark.parametrize(
    ("gts", "res", "message"),
    [
        ({}, {}, "there are no captions"),
        ({1: ["a"], 2: ["b"]}, {1: ["a"]}, "1 of 2 images have references, but no candidate: 2"),
        ({1: ["a"]}, {i: ["a"] for i in range(1, 9)}, r"7 of 8 images have a candidate, .*: 2, 3, 4, 5, 6, \.\.\."),
        ({1: []}, {1: ["a"]}, "1 of 1 images have an empty list of references: 1"),
        ({1: ["a"]}, {1: ["a", "b"]}, "1 of 1 images do not have one candidate: 1"),
        ({1: ["a"]}, {1: []}, "1 of 1 images do not have one candidate: 1"),
    ],
)
def test_images_without_references_or_their_candidate_are_named(gts, res, message):
    with pytest.raises(ValueError, match=message):
        check_captions(gts, res)
