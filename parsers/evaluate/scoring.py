"""SPICE and Set Match between two scene graphs, as FACTUAL reports them.

SPICE (arXiv 1607.08822) is the F1 of the graphs' nodes: objects, attributes and relations. Two nodes match if their
words are equal or synonyms. Set Match (arXiv 2305.17497) asks whether both graphs hold the same triples. Callers
replace the words of the triples by their noun lemmas first (`parsers.lemmatizer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from parsers.gold import IS, Triple, list_objects

Synonyms = Callable[[str], frozenset[str]]
"""Returns the sets of synonyms (WordNet synsets) that a phrase belongs to."""

SpiceNode = list[frozenset[str]]
"""An object (length 1), an object with an attribute (2) or a relation with both objects (3).

Each place holds the names that stand there: one at first, several once synonymous nodes are merged.
"""


def set_match(found: Iterable[Triple], true: Iterable[Triple]) -> bool:
    """Tells whether both graphs hold the same triples."""
    return set(found) == set(true)


def spice(found: Iterable[Triple], true: Iterable[Triple], synonyms: Synonyms | None = None) -> float:
    """Returns the F1 of matching nodes, between 0 and 1. Without ``synonyms`` only equal words match.

    For example, the true triples (man, wear, hat) and (hat, is, red) make four nodes: man; hat; hat, red; and
    man, wear, hat. A parser that finds (man, hold, hat) alone makes three: man; hat; and man, hold, hat. Two of them
    match, so precision is 2/3, recall is 2/4, and the score is 2 * 2/3 * 1/2 / (2/3 + 1/2) = 4/7.
    """
    found_nodes, true_nodes = (list_nodes(triples, synonyms) for triples in (found, true))
    matched = count_matches(found_nodes, true_nodes, synonyms)
    if not matched:
        return 0.0
    precision, recall = matched / len(found_nodes), matched / len(true_nodes)
    return 2 * precision * recall / (precision + recall)


def list_nodes(triples: Iterable[Triple], synonyms: Synonyms | None) -> list[SpiceNode]:
    """Returns the nodes of a graph, or of several graphs that are merged into one; synonymous nodes count once.

    They do not depend on the order of the triples.
    """
    plain: dict[Triple, None] = {}
    for triple in triples:
        plain |= {(name,): None for name in list_objects(triple)}
        if len(triple) == 3:
            plain[(triple[0], triple[2]) if triple[1] == IS else triple] = None
    nodes = [[frozenset((word,)) for word in words] for words in sorted(plain, key=" ".join)]
    return nodes if synonyms is None else _merge(nodes, synonyms)


def _merge(nodes: list[SpiceNode], synonyms: Synonyms) -> list[SpiceNode]:
    """Merges the nodes of one graph that are synonymous, so that each counts once.

    Objects come first, and relations take over the merged names: with "dog" and "hound" the nodes dog; hound; and
    hound, on, sofa become {dog, hound}; and {dog, hound}, on, sofa. Then the names of attributes are pooled in the same
    way, and those of relations. In the end, nodes that are now synonymous at every place become one.
    """
    objects = _pool_names(nodes, 0, 1, synonyms)
    _rename(nodes, 0, 1, objects, synonyms)
    for place in (0, 2):
        _rename(nodes, place, 3, objects, synonyms)
    for length in (2, 3):
        _rename(nodes, 1, length, _pool_names(nodes, 1, length, synonyms), synonyms)
    merged: list[SpiceNode] = []
    for node in nodes:
        for i, other in enumerate(merged):
            if _are_synonymous(node, other, synonyms):
                merged[i] = [a | b for a, b in zip(node, other, strict=True)]
                break
        else:
            merged.append(node)
    return merged


def _pool_names(nodes: Sequence[SpiceNode], place: int, length: int, synonyms: Synonyms) -> list[frozenset[str]]:
    """Returns the names at one place of all nodes of one length; synonyms are in one pool."""
    pools: list[frozenset[str]] = []
    for node in nodes:
        if len(node) == length:
            i = _find_pool(node[place], pools, synonyms)
            if i is None:
                pools.append(node[place])
            else:
                pools[i] |= node[place]
    return pools


def _rename(
    nodes: Sequence[SpiceNode], place: int, length: int, pools: Sequence[frozenset[str]], synonyms: Synonyms
) -> None:
    """Adds to the names at one place of all nodes of one length the pool that they belong to."""
    for node in nodes:
        if len(node) == length:
            i = _find_pool(node[place], pools, synonyms)
            if i is not None:
                node[place] |= pools[i]


def _find_pool(names: frozenset[str], pools: Sequence[frozenset[str]], synonyms: Synonyms) -> int | None:
    """Returns the number of the first pool that shares a synset with the names."""
    synsets = _look_up(names, synonyms)
    return next((i for i, pool in enumerate(pools) if synsets & _look_up(pool, synonyms)), None)


def count_matches(found: Sequence[SpiceNode], true: Sequence[SpiceNode], synonyms: Synonyms | None) -> int:
    """Returns how many nodes match: those that share words are paired, then the others that share synonyms.

    Pairs are made greedily, in the order of the nodes.
    """
    free_found, free_true = dict(enumerate(found)), dict(enumerate(true))
    rules = [_share_words] if synonyms is None else [_share_words, lambda a, b: _are_synonymous(a, b, synonyms)]
    for are_same in rules:
        for i, node in list(free_found.items()):
            j = next((j for j, other in free_true.items() if are_same(node, other)), None)
            if j is not None:
                del free_found[i], free_true[j]
    return len(found) - len(free_found)


def _share_words(a: SpiceNode, b: SpiceNode) -> bool:
    return len(a) == len(b) and all(x & y for x, y in zip(a, b, strict=True))


def _are_synonymous(a: SpiceNode, b: SpiceNode, synonyms: Synonyms) -> bool:
    return _share_words([_look_up(names, synonyms) for names in a], [_look_up(names, synonyms) for names in b])


def _look_up(names: frozenset[str], synonyms: Synonyms) -> frozenset[str]:
    return frozenset().union(*map(synonyms, names))
