"""Any scene graphs, and graphs of paragraphs, to test with."""

import re
from pathlib import Path

from hypothesis import strategies as st

from parsers.gold import list_objects, read_gold, remove_number
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span, list_runs

SCORES = st.integers(0, 10_000).map(lambda number: number / 10_000)
PARAGRAPHS = Path(__file__).parent / "gold_paragraphs.jsonl"


@st.composite
def any_graphs(draw, words=st.lists(st.sampled_from(["a", "dog", "sidewalk", "it", ",", "🐕"]), max_size=20)):
    """A graph over a caption of some words: its objects have one to four mentions, and nodes may share words."""
    texts = draw(words)
    caption = " ".join(texts)
    ends = [len(" ".join(texts[: number + 1])) for number in range(len(texts))]
    starts = [end - len(text) for end, text in zip(ends, texts, strict=True)]
    places = st.sets(st.sampled_from(range(len(texts))), min_size=1, max_size=4).map(sorted)

    def spans():
        return [Span(starts[first], ends[last]) for first, last in list_runs(draw(places))]

    objects = []
    for _ in range(draw(st.integers(0, 4)) if texts else 0):
        found = spans()
        name = found.pop(draw(st.integers(0, len(found) - 1)))
        objects.append(Object("thing", name, tuple(found), draw(SCORES)))
    numbers = st.integers(0, len(objects) - 1)
    attributes = [
        Attribute(draw(numbers), "red", spans()[0], draw(SCORES))
        for _ in range(draw(st.integers(0, 3)) if objects else 0)
    ]
    pairs = st.permutations(range(len(objects))).map(lambda order: order[:2])
    relations = [
        Relation(*draw(pairs), "near", tuple(spans()) if draw(st.booleans()) else (), draw(SCORES))
        for _ in range(draw(st.integers(0, 3)) if len(objects) > 1 else 0)
    ]
    return SceneGraph(caption, tuple(objects), tuple(attributes), tuple(relations))


def gold_graphs():
    """The graphs of the gold paragraphs about photos, whose objects are mentioned up to nine times.

    Mentions are cut to the name of the object or their last word. Attributes and relations have the words that look
    like theirs.
    """
    return [_to_graph(gold) for gold in read_gold(PARAGRAPHS)[:102]]


def _to_graph(gold):
    names = list(gold.mentions)
    objects = []
    for name in names:
        first, *rest = (_find_head(gold.caption, remove_number(name), span) for span in gold.mentions[name])
        objects.append(Object(remove_number(name), first, tuple(rest)))
    attributes, relations = [], []
    for triple in gold.triples:
        numbers = [names.index(name) for name in list_objects(triple)]
        spans = _find(gold.caption, triple[1 if len(numbers) == 2 else -1], objects[numbers[0]].span.start)
        if len(numbers) == 2:
            relations.append(Relation(*numbers, triple[1], spans))
        elif len(triple) == 3 and spans:
            attributes.append(Attribute(*numbers, triple[2], *spans))
    return SceneGraph(gold.caption, tuple(objects), tuple(attributes), tuple(relations))


def _find_head(caption, name, span):
    text = caption[span.start : span.end]
    head = name if text.endswith(name) else text.split()[-1]
    return Span(span.end - len(head), span.end)


def _find(caption, words, near):
    """The place of the words that is nearest to a character, or none."""
    found = [match.span() for match in re.finditer(rf"\b{re.escape(words)}\w*", caption, re.IGNORECASE)]
    return tuple(Span(*span) for span in sorted(found, key=lambda span: abs(span[0] - near))[:1])
