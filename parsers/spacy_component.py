"""Scene graphs in a spaCy pipeline: ``nlp.add_pipe("scene_graph", config={"parser": "neural"})``.

After that, ``doc._.scene_graph`` is the `SceneGraph` of ``doc.text``. Its spans count the characters of the document.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import minibatch

import parsers
from parsers.graph import SceneGraph

KEY = "scene_graph"


class SceneGraphComponent:
    """Parses the text of each document and keeps the graph as plain data, which can be sent to other processes.

    Args:
        parser: the name of an installed parser.

    Raises:
        ValueError: there is no such parser.
    """

    def __init__(self, parser: str) -> None:
        self._parser = parsers.get(parser)

    def __call__(self, doc: Doc) -> Doc:
        """Adds the graph to one document."""
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], batch_size: int = 256) -> Iterator[Doc]:
        """Adds the graphs to documents, one batch at a time."""
        for docs in minibatch(stream, batch_size):
            batch = list(docs)
            for doc, graph in zip(batch, self._parser.parse([doc.text for doc in batch]), strict=True):
                doc.user_data[KEY] = graph.to_dict()
                yield doc


def make_component(nlp: Language, name: str, parser: str) -> SceneGraphComponent:  # noqa: ARG001 (spaCy passes all three)
    """Builds the component for ``nlp.add_pipe``."""
    return SceneGraphComponent(parser)


def _get_graph(doc: Doc) -> SceneGraph | None:
    found = doc.user_data.get(KEY)
    return None if found is None else SceneGraph.from_dict(doc.text, found)


def _use_one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


# ``nlp.pipe(n_process=...)`` forks. A forked process has none of the threads of its OpenMP pool, and would wait for
# them for ever if it used more than one.
os.register_at_fork(after_in_child=_use_one_thread)

# The getter builds the graph anew at each access. If the component did not run, it returns None.
Doc.set_extension(KEY, getter=_get_graph, force=True)

Language.factory(KEY, default_config={"parser": "neural"}, assigns=[f"doc._.{KEY}"], func=make_component)
