"""The scene graph of a caption (`graph`), and the parsers that make one: `get` builds one.

Modules here import nothing else of this project. Importing this package imports no parser and nothing that one needs.
Start reading at `Parser`, which says what a parser must do; `parsers.sng` is the smallest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from parsers.graph import SceneGraph
from parsers.registry import Registry


class Parser(Protocol):
    """A parser turns a batch of captions into their scene graphs, in the same order.

    ``parse`` is deterministic and touches no file and no network. The graph of a caption does not depend on the other
    captions of the batch, except for the rounding of sums. Everything that must be loaded is loaded in ``__init__``.
    """

    name: str
    version: str
    """It changes whenever the graph of some caption may change, and is part of the fingerprint of every stage."""

    def parse(self, captions: Sequence[str]) -> list[SceneGraph]:
        """Returns one graph for each caption."""
        ...


PARSERS: Registry[Parser] = Registry("parser", "ernie_vil.parsers")
names = PARSERS.names
DEFAULT = "neural"
"""The parser that is used if none is named."""


def get(name: str, **options: object) -> Parser:
    """Builds a parser with its own options.

    Args:
        name: the name of an installed parser, or the folder of a network that ``parsers.train`` made.
        options: what the parser takes.

    Raises:
        ValueError: there is neither such a parser nor such a folder.
        ImportError: the parser's module, or a package that it needs, cannot be imported.
    """
    if name not in names() and Path(name).is_dir():
        try:
            return PARSERS.get("neural", model=name, **options)
        except FileNotFoundError as error:
            raise ValueError(f"{name} holds no trained parser: {error.filename} is missing") from error
    return PARSERS.get(name, **options)
