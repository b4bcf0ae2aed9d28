"""Captions with graphs, written as short text, and the false captions that are made of them."""

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from pipeline.negatives.lexicon import read_lexicon
from pipeline.negatives.makers import make_false_captions
from pipeline.negatives.picture import Picture
from shards.schema import NEGATIVE_KINDS


def span_of(caption, words):
    """Where words stand; "dog#2" is the second "dog"."""
    words, _, place = words.partition("#")
    start = -1
    for _ in range(int(place or 1)):
        start = caption.index(words, start + 1)
    return Span(start, start + len(words))


def graph_of(caption, objects, attributes=(), relations=()):
    """A graph: objects as their words, attributes as (object, words), relations as (subject, words, object)."""
    names = [name if isinstance(name, tuple) else (name, name.partition("#")[0].lower()) for name in objects]
    return SceneGraph(
        caption,
        tuple(Object(lemma, span_of(caption, words)) for words, lemma in names),
        tuple(Attribute(number, words.lower(), span_of(caption, words)) for number, words in attributes),
        tuple(
            Relation(subject, number, words.partition("#")[0], (span_of(caption, words),))
            for subject, words, number in relations
        ),
    )


def falsify(graph, kind, *others, per_kind=100, key="k", frequencies=None):
    """All false captions of a kind, by text, that a picture with these further captions gives."""
    picture = Picture([graph, *others])
    made = make_false_captions(picture, 0, [kind], per_kind, frequencies or {}, key, read_lexicon())
    assert all(false.kind == kind and kind in NEGATIVE_KINDS for false in made)
    return {false.graph.caption: false for false in made}
