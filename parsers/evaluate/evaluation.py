"""Compares a parser's graphs with gold graphs: scores, each kind of node, and the errors by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from parsers.evaluate.scoring import Synonyms, set_match, spice
from parsers.gold import IS, GoldCaption, Triple, list_objects, list_triples, remove_numbers
from parsers.graph import SceneGraph
from parsers.lemmatizer import Lemmatizer

LONG = 9
"""Smallest number of words in a long caption."""

_TriplePair = tuple[frozenset[Triple], frozenset[Triple]]
"""The found and the true triples of one caption."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many nodes of one kind were found, are true, or both, over all captions."""

    found: int
    true: int
    both: int

    @property
    def precision(self) -> float:
        """Share of the found nodes that are true, 0 to 1. It is 0 if none were found."""
        return self.both / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the true nodes that were found, 0 to 1. It is 0 if there are no true nodes."""
        return self.both / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 to 1. It is 0 if there are neither found nor true nodes."""
        return 2 * self.both / (self.found + self.true) if self.found + self.true else 0.0


@dataclass(frozen=True, slots=True)
class ParserScores:
    """A parser's scores on a gold file. ``spice`` and ``set_match`` are means over captions, 0 to 1."""

    captions: int
    spice: float
    set_match: float
    long_captions: int
    long_spice: float
    long_set_match: float
    kinds: dict[str, Agreement]
    grounded: dict[str, float]
    """for each kind, the share of the found nodes that are tied to words"""
    causes: dict[str, int]
    """how often each kind of error occurs, the most frequent first"""
    examples: dict[str, list[str]]
    """for each cause, some captions with what was wrong"""

    def to_dict(self) -> dict[str, object]:
        """Returns the scores as JSON values."""
        agreements = {
            kind: {**asdict(a), "precision": a.precision, "recall": a.recall, "f1": a.f1}
            for kind, a in self.kinds.items()
        }
        return {**asdict(self), "kinds": agreements}


def score_graphs(
    graphs: Sequence[SceneGraph], gold: Sequence[GoldCaption], lemmatizer: Lemmatizer, synonyms: Synonyms | None
) -> ParserScores:
    """Compares each graph with the gold graph of the same caption.

    Args:
        graphs: the graphs that a parser has found.
        gold: the captions with their gold graphs, in the same order and of the same number.
        lemmatizer: replaces the words of both graphs by their noun lemmas before they are compared.
        synonyms: returns the sets of synonyms that a phrase belongs to. SPICE counts two phrases as equal if they share
            a set. If it is None, only equal phrases match. It has no effect on the other scores.

    Returns:
        The scores over all captions, and the errors with examples.

    Raises:
        ValueError: there are not as many graphs as gold captions.
    """
    pairs = [
        (
            frozenset(map(lemmatizer.triple, list_triples(graph))),
            frozenset(map(lemmatizer.triple, remove_numbers(caption.triples))),
        )
        for graph, caption in zip(graphs, gold, strict=True)
    ]
    spices = [spice(sorted(found), sorted(true), synonyms) for found, true in pairs]
    matches = [set_match(found, true) for found, true in pairs]
    long = [i for i, caption in enumerate(gold) if len(caption.caption.split()) >= LONG]
    causes, examples = _list_errors(gold, pairs)
    return ParserScores(
        captions=len(gold),
        spice=_mean(spices),
        set_match=_mean(matches),
        long_captions=len(long),
        long_spice=_mean([spices[i] for i in long]),
        long_set_match=_mean([matches[i] for i in long]),
        kinds={
            "objects": _count_agreement(pairs, _objects),
            "attributes": _count_agreement(pairs, _attributes),
            "relations": _count_agreement(pairs, _relations),
        },
        grounded=_measure_grounding(graphs),
        causes=dict(causes.most_common()),
        examples=examples,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _count_agreement(pairs: Iterable[_TriplePair], choose: Callable[[Iterable[Triple]], set[Triple]]) -> Agreement:
    chosen = [(choose(found), choose(true)) for found, true in pairs]
    return Agreement(
        found=sum(len(found) for found, _ in chosen),
        true=sum(len(true) for _, true in chosen),
        both=sum(len(found & true) for found, true in chosen),
    )


def _objects(triples: Iterable[Triple]) -> set[Triple]:
    return {(name,) for triple in triples for name in list_objects(triple)}


def _attributes(triples: Iterable[Triple]) -> set[Triple]:
    return {triple for triple in triples if len(triple) == 3 and triple[1] == IS}


def _relations(triples: Iterable[Triple]) -> set[Triple]:
    return {triple for triple in triples if len(triple) == 3 and triple[1] != IS}


def _measure_grounding(graphs: Sequence[SceneGraph]) -> dict[str, float]:
    """Returns the share of nodes with a span. Objects and attributes always have one; relations may have none."""
    relations = [relation for graph in graphs for relation in graph.relations]
    return {"objects": 1.0, "attributes": 1.0, "relations": _mean([bool(relation.spans) for relation in relations])}


def _list_errors(
    gold: Sequence[GoldCaption], pairs: Iterable[_TriplePair], most: int = 20
) -> tuple[Counter[str], dict[str, list[str]]]:
    """Counts the true triples that were not found and the found ones that are not true, by what is wrong with them.

    Returns:
        How often each cause occurs, and at most ``most`` examples of it.
    """
    causes: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for caption, (found, true) in zip(gold, pairs, strict=True):
        for triple, others, verb in (
            *((t, found - true, "missing") for t in sorted(true - found)),
            *((t, true - found, "wrong") for t in sorted(found - true)),
        ):
            cause = f"{verb} {_find_cause(triple, others)}"
            causes[cause] += 1
            shown = examples.setdefault(cause, [])
            if len(shown) < most:
                rest = "; ".join(", ".join(other) for other in sorted(others)) or "nothing"
                shown.append(f"{caption.caption} | {', '.join(triple)} | other side: {rest}")
    return causes, examples


def _find_cause(triple: Triple, others: Iterable[Triple]) -> str:
    """Says what differs between a triple and the nearest unmatched one of the other graph."""
    if len(triple) == 1:
        return "object without attribute or relation"
    kind = "attribute" if triple[1] == IS else "relation"
    same_kind = [other for other in others if len(other) == 3 and (other[1] == IS) == (kind == "attribute")]
    if kind == "relation":
        if any((other[0], other[2]) == (triple[0], triple[2]) for other in same_kind):
            return "relation: other label"
        if any((other[0], other[2]) == (triple[2], triple[0]) for other in same_kind):
            return "relation: turned round"
        if any(other[1] == triple[1] for other in same_kind):
            return "relation: other object or subject"
    elif any(other[2] == triple[2] for other in same_kind):
        return "attribute: other object"
    elif any(other[0] == triple[0] for other in same_kind):
        return "attribute: other label"
    return f"{kind}: no counterpart"
