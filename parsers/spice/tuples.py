"""The tuples that SPICE compares: those of a caption's graph, and those of the merged graphs of its references."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parsers import Parser
from parsers.gold import IS, Triple, list_objects, list_triples

BATCH = 4096
"""Captions that are parsed together. Their graphs are in memory at the same time."""

Captions = Mapping[Any, Sequence[str]]
"""The captions of each image, by its id."""

Count = Callable[[int], object]
"""Is told how much more is done."""


def ignore(_done: int) -> None:
    """The `Count` of those who show no progress."""


@dataclass(frozen=True, slots=True)
class ImageTriples:
    """The triples of an image's candidate caption, and those of all its references, each once."""

    candidate: tuple[Triple, ...]
    references: tuple[Triple, ...]


def check_captions(gts: Captions, res: Captions) -> None:
    """Sees that there are references and one candidate for each image.

    Raises:
        ValueError: there are no images, or an image lacks references or its one candidate; the message names some.
    """
    if not gts and not res:
        raise ValueError("there are no captions")
    wrong = {
        "have references, but no candidate": gts.keys() - res.keys(),
        "have a candidate, but no references": res.keys() - gts.keys(),
        "have an empty list of references": {image for image, captions in gts.items() if not captions},
        "do not have one candidate": {image for image, captions in res.items() if len(captions) != 1},
    }
    for what, images in wrong.items():
        if images:
            names = sorted(map(str, images))
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise ValueError(f"{len(images):,} of {len(gts.keys() | res.keys()):,} images {what}: {shown}")


def parse_captions(parser: Parser, gts: Captions, res: Captions, advance: Count = ignore) -> list[ImageTriples]:
    """Parses the captions of all images, each different caption once.

    Args:
        parser: makes the graphs.
        gts: the references of each image, at least one.
        res: for the same images a list of one candidate.
        advance: is told how many captions of both have been parsed since the last call.

    Returns:
        The triples of each image, in the order of ``gts``.

    Raises:
        ValueError: the ids differ, or there is not one candidate; see `check_captions`.
    """
    check_captions(gts, res)
    texts = list_texts(gts, res)
    triples: dict[str, tuple[Triple, ...]] = {}
    for start in range(0, len(texts), BATCH):
        some = texts[start : start + BATCH]
        triples |= {text: list_triples(graph) for text, graph in zip(some, parser.parse(some), strict=True)}
        advance(len(some))
    return [
        ImageTriples(
            triples[res[image][0]],
            tuple(dict.fromkeys(triple for text in references for triple in triples[text])),
        )
        for image, references in gts.items()
    ]


def list_texts(gts: Captions, res: Captions) -> list[str]:
    """Returns the different captions of both."""
    return list(dict.fromkeys(text for captions in (*gts.values(), *res.values()) for text in captions))


def split_compounds(triples: Iterable[Triple]) -> list[Triple]:
    """Splits names of several words into the thing and an attribute, as SPICE does.

    The paper (arXiv 1607.08822, section 3.1) has (court) and (court, tennis) for a "tennis court". So a caption that
    says "court" names the same thing.
    """
    split: dict[Triple, None] = {}
    for triple in triples:
        for name in list_objects(triple):
            modifier, _, head = name.rpartition(" ")
            if modifier:
                split[(head, IS, modifier)] = None
        if len(triple) == 1:
            split[(_name_thing(triple[0]),)] = None
        elif triple[1] == IS:
            split[(_name_thing(triple[0]), IS, triple[2])] = None
        else:
            split[(_name_thing(triple[0]), triple[1], _name_thing(triple[2]))] = None
    return list(split)


def _name_thing(name: str) -> str:
    return name.rpartition(" ")[2]
