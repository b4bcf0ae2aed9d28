"""Cuts paragraphs with gold graphs into sentences, each with the part of the graph that it says.

The file of paragraphs gives the characters of every mention, so objects need not be searched for. A triple goes to the
sentence that says it: one that mentions its objects, and has the words of the triple nearest to them.

What a sentence names and the gold graph lacks is nothing to see ("a sense of calm"). The rules of `parsers.dependency`
find such nodes. They are learned as hidden ones, so that the network learns to tell what is visible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from parsers.gold import IS, GoldCaption, remove_number
from parsers.graph import SceneGraph, Span
from parsers.neural.sentences import find_sentences
from parsers.neural.tokenizer import TokenizedCaption, tokenize
from parsers.train.alignment import (
    AlignedAttribute,
    AlignedGraph,
    AlignedRelation,
    Aligner,
    Phrase,
    align_spans,
    find_span,
)
from parsers.train.examples import TrainingExample

PRONOUNS = {
    "it": "it", "its": "it", "itself": "it", "he": "man", "him": "man", "his": "man", "she": "woman", "her": "woman",
    "hers": "woman", "they": "people", "them": "people", "their": "people",
}  # fmt: skip
"""Pronouns, and what they are called where nothing says what they stand for."""
FARTHEST = 60
"""The highest cost of a triple's words that is believed; see `ParagraphCutter`."""
NOT_SAID = 20
"""What a word of a relation costs that is not found."""
OUTSIDE = 5
"""What an attribute costs that stands outside the mention that it describes."""


@dataclass(frozen=True, slots=True)
class _Mention:
    """A mention of an object in a sentence."""

    key: str
    """the object, with its number"""
    whole: Phrase
    """all words of the mention"""
    name: Phrase
    """the words of the name"""
    label: str


class ParagraphCutter:
    """Makes aligned sentences of paragraphs.

    Say a paragraph is "A dog sits. It has a red collar." with the mentions "A dog", "It" and "a red collar" and the
    triples (dog, is, sitting), (dog, have, collar) and (collar, is, red). The second sentence gets the objects "it" and
    "collar", the relation *have* between them, anchored at "has", and the attribute "red".

    A sentence that has both a name and a pronoun for an object keeps the name alone, as captions do.

    Args:
        align: finds the words of triples.
        correct: corrects the spelling of a caption.
        parse_by_rules: returns the graphs that the rules find in captions.
    """

    def __init__(
        self,
        align: Aligner,
        correct: Callable[[TokenizedCaption], TokenizedCaption],
        parse_by_rules: Callable[[Sequence[str]], Sequence[SceneGraph]],
    ) -> None:
        self._align, self._correct, self._parse_by_rules = align, correct, parse_by_rules

    def __call__(self, paragraph: GoldCaption) -> list[TrainingExample]:
        """Returns the sentences of a paragraph with their graphs, in order."""
        ends = find_sentences(paragraph.caption)
        texts = [paragraph.caption[start:end] for start, end in ends]
        words = [self._correct(tokenize(text)) for text in texts]
        mentions = [
            self._list_mentions(paragraph, start, sentence) for (start, _), sentence in zip(ends, words, strict=True)
        ]
        graphs = self._align_triples(paragraph, words, mentions)
        examples = []
        for sentence, graph, named, ruled in zip(words, graphs, mentions, self._parse_by_rules(texts), strict=True):
            whole, hidden = _add_hidden(graph, named, align_spans(sentence, ruled))
            examples.append(TrainingExample(sentence, whole, hidden=frozenset(hidden)))
        return examples

    def _list_mentions(self, paragraph: GoldCaption, start: int, words: TokenizedCaption) -> list[_Mention]:
        found = []
        for key, spans in paragraph.mentions.items():
            whole = [p for s in spans if (p := find_span(words, Span(s.start - start, s.end - start))) is not None]
            here = [self._name(key, phrase, words) for phrase in whole]
            named = [mention for mention in here if words.forms[mention.name.last] not in PRONOUNS]
            found += named or here[:1]
        return found

    def _name(self, key: str, whole: Phrase, words: TokenizedCaption) -> _Mention:
        inside = words.forms[whole.first : whole.last + 1]
        name = remove_number(key)
        places = self._align.find_phrases(inside, name.split())
        if places:
            phrase = Phrase(whole.first + places[-1].first, whole.first + places[-1].last)
            return _Mention(key, whole, phrase, name)
        # "One of them" is the one, "the young lady" is the lady.
        last = whole.first + (inside.index("of") - 1 if "of" in inside[1:] else len(inside) - 1)
        form = words.forms[last]
        return _Mention(key, whole, Phrase(last, last), PRONOUNS.get(form, form))

    def _align_triples(
        self, paragraph: GoldCaption, words: Sequence[TokenizedCaption], mentions: Sequence[Sequence[_Mention]]
    ) -> list[AlignedGraph]:
        attributes: list[list[AlignedAttribute]] = [[] for _ in words]
        relations: list[list[AlignedRelation]] = [[] for _ in words]
        for triple in paragraph.triples:
            if len(triple) == 3 and triple[1] == IS:
                described = [
                    (cost, number, attribute)
                    for number, named in enumerate(mentions)
                    for cost, attribute in self._find_attributes(words[number], named, triple[0], triple[2])
                ]
                for _, number, attribute in _choose_attributes(described):
                    attributes[number].append(attribute)
            elif len(triple) == 3:
                related = [
                    (cost, number, relation)
                    for number, named in enumerate(mentions)
                    for cost, relation in self._find_relations(words[number], named, triple[0], triple[1], triple[2])
                ]
                for cost, number, relation in sorted(related, key=lambda r: r[:2])[:1]:
                    if cost < FARTHEST:
                        relations[number].append(relation)
        return [
            AlignedGraph(tuple((m.name, m.label) for m in named), tuple(said), tuple(joined), ())
            for named, said, joined in zip(mentions, attributes, relations, strict=True)
        ]

    def _find_attributes(
        self, words: TokenizedCaption, mentions: Sequence[_Mention], key: str, label: str
    ) -> Iterable[tuple[int, AlignedAttribute]]:
        for mention in mentions:
            if mention.key != key:
                continue
            others = {i for m in mentions if m is not mention for i in m.whole.places()}
            for phrase in self._align.find_phrases(words.forms, label.split()):
                if phrase.last in mention.name.places() or phrase.last in others:
                    continue
                apart = abs(mention.name.last - phrase.last)
                cost = 0 if phrase.last in mention.whole.places() else OUTSIDE + apart
                yield cost, AlignedAttribute(phrase, mention.name.last, label)

    def _find_relations(
        self, words: TokenizedCaption, mentions: Sequence[_Mention], subject: str, label: str, object_: str
    ) -> Iterable[tuple[int, AlignedRelation]]:
        for one in mentions:
            for other in mentions:
                if (one.key, other.key) != (subject, object_) or one.name.last == other.name.last:
                    continue
                relation = self._align.align_relation(words.forms, label, one.name, other.name)
                missing = max(0, len(label.split()) - len(relation.words))
                ends = (one.name.last, other.name.last, *relation.words)
                yield NOT_SAID * missing + max(ends) - min(ends), relation


def _choose_attributes(found: Sequence[tuple[int, int, AlignedAttribute]]) -> list[tuple[int, int, AlignedAttribute]]:
    """Chooses where an attribute is said: in all mentions that have it, or else at the place of the lowest cost."""
    inside = [one for one in found if one[0] < OUTSIDE]
    return inside or [one for one in sorted(found, key=lambda a: a[:2])[:1] if one[0] < FARTHEST]


def _add_hidden(
    graph: AlignedGraph, mentions: Sequence[_Mention], ruled: AlignedGraph
) -> tuple[AlignedGraph, set[int]]:
    """Adds what the rules find and the gold graph lacks.

    Returns:
        The whole graph, and the words that stand for nodes nobody can see.
    """
    owner = {i: mention for mention in mentions for i in mention.whole.places()}
    said = {i for a in graph.attributes for i in a.phrase.places()} | {i for r in graph.relations for i in r.words}
    objects = [(phrase, name) for phrase, name in ruled.objects if phrase.last not in owner.keys() | said]
    hidden = {phrase.last for phrase, _ in objects}
    attributes = []
    for attribute in ruled.attributes:
        word, described = attribute.phrase.last, owner.get(attribute.object)
        if said & set(attribute.phrase.places()):
            continue
        if attribute.object in hidden and word not in owner:
            attributes.append(attribute)
        elif described is not None and owner.get(word) is described and word not in described.name.places():
            attributes.append(replace(attribute, object=described.name.last))
    relations = []
    for relation in ruled.relations:
        if not {relation.subject, relation.object} & hidden or set(relation.words) & (owner.keys() | said):
            continue
        ends = [
            end if end in hidden else owner[end].name.last if end in owner else None
            for end in (relation.subject, relation.object)
        ]
        if None not in ends and ends[0] != ends[1]:
            subject, object_ = ends
            assert subject is not None
            assert object_ is not None
            anchor = relation.words[-1] if relation.words else object_
            relations.append(replace(relation, subject=subject, object=object_, anchor=anchor))
    hidden |= {attribute.phrase.last for attribute in attributes}
    whole = AlignedGraph(
        (*graph.objects, *objects), (*graph.attributes, *attributes), (*graph.relations, *relations), graph.missing
    )
    return whole, hidden
