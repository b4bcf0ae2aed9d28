"""Caption parsers: `get` finds one by name, `Parser` says what one must do.

Parsers are found through the entry-point group ``ernie_vil.parsers``, so another package can add one. Importing this
package imports no parser and none of their dependencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol

from parsers.graph import SceneGraph

ENTRY_POINT_GROUP = "ernie_vil.parsers"


class Parser(Protocol):
    """Turns captions into scene graphs: a batch in, a batch out, in the same order.

    ``parse`` is deterministic, touches no file and no network, and the graph of a caption does not depend on its
    neighbours in the batch, the rounding of sums aside. Whatever must be loaded is loaded when the parser is built.
    """

    name: str
    version: str
    """Changes whenever the graphs of some caption may change: it goes into the fingerprint of every stage."""

    def parse(self, captions: Sequence[str]) -> list[SceneGraph]:
        """The graph of each caption."""
        ...


def names() -> list[str]:
    """The names of all installed parsers, sorted."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)})


def get(name: str, **options: Any) -> Parser:
    """Builds the parser ``name`` with its own options.

    Raises:
        ValueError: no installed package offers such a parser.
    """
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            parser: Parser = entry.load()(**options)
            return parser
    raise ValueError(f"there is no parser {name!r}; installed are: {', '.join(names()) or 'none'}")
