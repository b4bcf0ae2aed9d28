"""Scene graphs in spaCy pipelines."""

import pytest
import spacy

import parsers
from parsers import SceneGraph

TEXTS = ["a red ball on a table", "two dogs", "", "a man holding a cup"]


@pytest.fixture(scope="module")
def nlp():
    pipeline = spacy.blank("en")
    pipeline.add_pipe("scene_graph", config={"parser": "neural"})
    return pipeline


def test_a_document_has_the_graph_of_its_text(nlp):
    doc = nlp(TEXTS[0])
    assert doc._.scene_graph == parsers.get("neural").parse([TEXTS[0]])[0]
    span = doc._.scene_graph.objects[0].span
    assert doc.char_span(span.start, span.end).text == "ball"


def test_documents_in_a_stream_keep_their_order(nlp):
    graphs = [doc._.scene_graph for doc in nlp.pipe(TEXTS, batch_size=3)]
    assert graphs == parsers.get("neural").parse(TEXTS)


def test_documents_travel_between_processes(nlp):
    graphs = [doc._.scene_graph for doc in nlp.pipe(TEXTS, n_process=2)]
    assert graphs == parsers.get("neural").parse(TEXTS)


def test_pipelines_and_documents_are_saved_and_loaded(nlp, tmp_path):
    nlp.to_disk(tmp_path)
    doc = spacy.load(tmp_path)(TEXTS[0])
    assert isinstance(doc._.scene_graph, SceneGraph)
    again = spacy.tokens.Doc(nlp.vocab).from_bytes(doc.to_bytes())
    assert again._.scene_graph == doc._.scene_graph


def test_without_the_component_there_is_no_graph():
    assert spacy.blank("en")("a dog")._.scene_graph is None


def test_an_unknown_parser_is_named():
    with pytest.raises(ValueError, match="there is no parser 'nonesuch'"):
        spacy.blank("en").add_pipe("scene_graph", config={"parser": "nonesuch"})
