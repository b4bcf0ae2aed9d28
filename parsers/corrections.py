"""What a graph must not say, whichever parser made it: what the caption denies, and the inside of a compound."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from parsers.graph import Attribute, Relation, SceneGraph, Span
from parsers.verbs import find_verbs

_COMPOUND = re.compile(r"\b\w+(?:-\w+)*-\w+ing\b", re.IGNORECASE)
_DENIAL = re.compile(r"\b(?:no|none|not|without|nobody|nothing|neither|nor|cannot|\w+n['’]t)\b", re.IGNORECASE)
_NAMES_NOBODY = frozenset(("none", "nobody", "nothing", "neither", "no one", "no-one"))
_DENIED_THING = re.compile(
    r"\b(?:no|without|none of|neither(?: of)?|nor|not (?:a|an|any|one)|\w+n['’]t (?:a|an|any|one))"
    r"(?: (?:a|an|any|the|these|those|his|her|its|their|one|single|of))* (?!\w+ing\b)",
    re.IGNORECASE,
)
"""What stands before a thing that is not there. "No parking" is a sign."""
_DENIED_WORD = re.compile(
    r"\b(?:not|never|cannot|\w+n['’]t)(?: (?:be|been|being|very|really|quite|yet|even|too))* ", re.IGNORECASE
)
"""What stands before a property or an action that is not there."""
_INDEFINITE = re.compile(r"\b(?:an?|any)(?: [\w-]+)? $", re.IGNORECASE)

_PLACES = frozenset(("near", "down", "up", "like", "round", "off", "out", "back", "top"))
"""Words that are verbs, too, but say in a relation where something is."""


def correct(graph: SceneGraph) -> SceneGraph:
    """Returns the graph without what the caption denies, and with "eye-catching" as one attribute."""
    if _COMPOUND.search(graph.caption):
        graph = _join_compounds(graph)
    return _drop_denied(graph) if _DENIAL.search(graph.caption) else graph


def _join_compounds(graph: SceneGraph) -> SceneGraph:
    """Makes one attribute of each compound that ends with a participle: the eye of "eye-catching" is nothing to see."""
    for match in _COMPOUND.finditer(graph.caption):
        whole = Span(*match.span())
        if any(thing.span.start < whole.end <= thing.span.end for thing in graph.objects):
            continue  # it is, or ends, a name
        described = _find_described(graph, whole)
        if described is None:
            continue
        inside = {i for i, thing in enumerate(graph.objects) if _holds(whole, thing.span)}
        moved = dict.fromkeys(inside, described)
        relations = tuple(
            replace(r, subject=moved.get(r.subject, r.subject), object=moved.get(r.object, r.object))
            for r in graph.relations
            if not any(_holds(whole, span) for span in r.spans)
        )
        attributes = tuple(a for a in graph.attributes if not _holds(whole, a.span) and a.object not in inside)
        attribute = Attribute(described, match.group().lower(), whole)
        ordered = tuple(sorted((*attributes, attribute), key=lambda a: (a.object, a.span, a.lemma)))
        graph = _without(replace(graph, attributes=ordered, relations=_distinct(relations)), inside)
    return graph


def _find_described(graph: SceneGraph, whole: Span) -> int | None:
    """Returns the object that a compound describes: what the parser says, or else the next one."""
    outside = [i for i, thing in enumerate(graph.objects) if not _holds(whole, thing.span)]
    said = [a.object for a in graph.attributes if _holds(whole, a.span)]
    following = [i for i in outside if graph.objects[i].span.start >= whole.end]
    return next((i for i in (*said, *following) if i in outside), None)


def _distinct(relations: Iterable[Relation]) -> tuple[Relation, ...]:
    """Returns the relations between different objects, each label once for two objects, in order."""
    kept: dict[tuple[int, int, str], Relation] = {}
    for relation in relations:
        if relation.subject != relation.object:
            kept.setdefault((relation.subject, relation.object, relation.lemma), relation)
    return tuple(kept[key] for key in sorted(kept))


def _drop_denied(graph: SceneGraph) -> SceneGraph:
    """Takes out the things, properties and relations that the caption says are not there."""
    things = [match.end() for match in _DENIED_THING.finditer(graph.caption)]
    words = {match.end() for match in _DENIED_WORD.finditer(graph.caption)}
    starts = [_start(graph, i) for i in range(len(graph.objects))]
    gone = {
        i
        for i, thing in enumerate(graph.objects)
        if thing.lemma.lower() in _NAMES_NOBODY or any(starts[i] <= place <= thing.span.start for place in things)
    }
    denied = [r for r in graph.relations if any(span.start in words for span in r.spans)]
    untrue = [*denied, *(r for r in graph.relations if r.subject in gone and _is_action(r))]
    # Nobody wears a hat: a hat that is named only as such is not there either.
    others = {i for r in graph.relations if r not in untrue for i in (r.subject, r.object)}
    last = {max(r.subject, r.object, key=lambda i: starts[i]) for r in untrue}
    gone |= {i for i in last - others if _is_indefinite(graph, starts[i])}
    kept = replace(
        graph,
        attributes=tuple(a for a in graph.attributes if a.span.start not in words),
        relations=tuple(r for r in graph.relations if r not in denied),
    )
    return _without(kept, gone)


def _start(graph: SceneGraph, number: int) -> int:
    """Returns where the phrase of an object begins: at its name, or at the adjectives before it."""
    thing = graph.objects[number]
    before = [a.span.start for a in graph.attributes if a.object == number and a.span.start < thing.span.start]
    ends = [other.span.end for other in graph.objects if other.span.end <= thing.span.start]
    return min((start for start in before if start >= max(ends, default=0)), default=thing.span.start)


def _is_indefinite(graph: SceneGraph, start: int) -> bool:
    return bool(_INDEFINITE.search(graph.caption[:start]))


def _is_action(relation: Relation) -> bool:
    first = relation.lemma.partition(" ")[0]
    return first not in _PLACES and bool(find_verbs(first))


def _holds(whole: Span, span: Span) -> bool:
    return whole.start <= span.start and span.end <= whole.end


def _without(graph: SceneGraph, gone: set[int]) -> SceneGraph:
    """Returns the graph without some objects and all that is said of them."""
    return graph.keep_objects(set(range(len(graph.objects))) - gone)
