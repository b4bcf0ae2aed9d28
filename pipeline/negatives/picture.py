"""What the captions of a picture say, so that nothing is made that may be true of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from parsers.graph import SceneGraph
from parsers.neural.nouns import singularize
from parsers.verbs import find_verbs

Fact = tuple[object, ...]
"""An object, an attribute with its object, or a relation with its subject and object, as lemmas."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_SYMMETRIC = re.compile(
    r"(?:^|\b)(?:next to|near|beside|by|with|close to|alongside|together|against|and|along with|meet|kiss|hug|face"
    r"|at|around|between|from)$"
)
"""The end of relations that hold both ways, or nearly so."""


def normalize(text: str) -> list[str]:
    """Returns the words of a text in lower case, nouns in the singular; words with a hyphen are several."""
    return [singularize(word) for word in _WORD.findall(text.lower())]


def is_symmetric(relation: str) -> bool:
    """Returns whether a relation that holds of two things holds, or may hold, the other way round as well."""
    return bool(_SYMMETRIC.search(relation.lower()))


def list_facts(graph: SceneGraph) -> set[Fact]:
    """Returns what a graph says of its objects. A symmetric relation says the same both ways round."""
    names = [" ".join(normalize(item.lemma)) for item in graph.objects]
    facts: set[Fact] = {(name,) for name in names}
    facts |= {(a.lemma.lower(), names[a.object]) for a in graph.attributes}
    for r in graph.relations:
        pair = (names[r.subject], names[r.object])
        facts.add((r.lemma.lower(), *(sorted(pair) if is_symmetric(r.lemma) else pair)))
    return facts


class Picture:
    """All captions of a picture."""

    def __init__(self, graphs: Sequence[SceneGraph]) -> None:
        self.graphs = graphs
        words = [normalize(graph.caption) for graph in graphs]
        self._said = "".join(f" {' '.join(of_one)} |" for of_one in words)
        tokens = {word for graph in graphs for word in _WORD.findall(graph.caption.lower())}
        self._verbs = {verb for token in tokens for verb in find_verbs(token)}
        self._facts: set[Fact] = set().union(*map(list_facts, graphs))

    def says(self, names: Iterable[str]) -> bool:
        """Returns whether a caption has one of these names, whatever its number."""
        return any(f" {' '.join(normalize(name))} " in self._said for name in names)

    def does(self, verb: str) -> bool:
        """Returns whether a caption has a form of a verb."""
        return verb.partition(" ")[0] in self._verbs

    def may_show(self, true: SceneGraph, false: SceneGraph) -> bool:
        """Returns whether a false caption says nothing new, or something that a caption of the picture says."""
        new = list_facts(false) - list_facts(true)
        return not new or not new.isdisjoint(self._facts)

    def attributes_of(self, names: Iterable[str]) -> list[str]:
        """Returns the attributes that the captions give to objects of these names, sorted."""
        wanted = {" ".join(normalize(name)) for name in names}
        return sorted(
            {
                a.lemma.lower()
                for graph in self.graphs
                for a in graph.attributes
                if " ".join(normalize(graph.objects[a.object].lemma)) in wanted
            }
        )
