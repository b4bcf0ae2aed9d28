"""The kinds of tuples that SPICE scores one by one: objects, relations, attributes, and three kinds of attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from parsers.evaluate.scoring import SpiceNode


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = _words(
    "amber aqua auburn azure beige black blond blonde blue blueish bluish bronze brown burgundy charcoal copper cream "
    "crimson cyan ebony emerald fuchsia gold golden gray green greenish grey indigo ivory khaki lavender lilac magenta "
    "maroon mauve mustard navy ochre olive orange peach pink plum purple red reddish rose ruby rust salmon scarlet "
    "silver silvery tan teal turquoise violet white whitish yellow yellowish"
)
COUNTS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand dozen"
)
"""Numbers as words; `neural` and `dependency` write digits."""
SIZES = _words(
    "big broad colossal deep enormous fat gargantuan giant gigantic great high huge immense large little long low "
    "massive medium medium-sized micro mid-sized mini miniature minuscule narrow oversized petite shallow short slim "
    "small tall teeny thick thin tiny vast wee wide"
)


def _has_attribute(node: SpiceNode, words: frozenset[str]) -> bool:
    """Tells whether the last word of a node's attribute, or a synonym merged with it, is among the words."""
    return len(node) == 2 and any(name.rpartition(" ")[2] in words for name in node[1])


KINDS: Mapping[str, Callable[[SpiceNode], bool]] = {
    "All": lambda _node: True,
    "Object": lambda node: len(node) == 1,
    "Attribute": lambda node: len(node) == 2,
    "Relation": lambda node: len(node) == 3,
    "Color": lambda node: _has_attribute(node, COLOURS),
    "Cardinality": lambda node: _has_attribute(node, COUNTS) or (len(node) == 2 and any(map(str.isdigit, node[1]))),
    "Size": lambda node: _has_attribute(node, SIZES),
}
"""What belongs to each kind, under the names that SPICE's JSON has."""
