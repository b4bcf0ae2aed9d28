"""SPICE and Set Match."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parsers
from parsers.evaluate.evaluation import score_graphs
from parsers.evaluate.scoring import set_match, spice
from parsers.evaluate.synonyms import WordNetSynonyms, find_synonyms
from parsers.gold import list_triples, read_gold
from parsers.lemmatizer import Lemmatizer

FACTUAL = Path(__file__).resolve().parents[4] / "shared/data/scene_graphs/factual"

words = st.sampled_from(["man", "dog", "cat", "hat", "red", "on"])
triples = st.lists(
    st.one_of(st.tuples(words), st.tuples(words, st.just("is"), words), st.tuples(words, words, words)), max_size=6
)


@pytest.fixture(scope="module")
def lemmatizer():
    return Lemmatizer()


def test_spice_counts_objects_attributes_and_relations():
    true = [("man", "wear", "hat"), ("hat", "is", "red")]  # man, hat, hat red, man wear hat
    assert spice(true, true) == 1
    assert spice([("man", "wear", "hat")], true) == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert spice([("man", "hold", "hat")], true) == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert spice([("dog",)], true) == 0
    assert spice([], true) == 0


@given(a=triples, b=triples)
def test_spice_is_symmetric_and_no_more_than_one(a, b):
    score = spice(a, b)
    assert 0 <= score <= 1
    assert score == pytest.approx(spice(b, a))
    assert not a or spice(a, a) == pytest.approx(1)
    assert spice(a[::-1], b) == pytest.approx(score)


@given(a=triples)
def test_set_match_does_not_look_at_the_order(a):
    assert set_match(a, a[::-1])
    assert not set_match(a, [*a, ("zebra",)])


@pytest.fixture
def synonyms(tmp_path, lemmatizer):
    synsets = {"dog": "1 2", "hound": "2", "sofa": "3", "couch": "3", "cat": "4"}
    lines = [f"{word} n {len(found.split())} 0 1 0 {found}  \n" for word, found in synsets.items()]
    (tmp_path / "index.noun").write_text("".join(lines))
    (tmp_path / "index.verb").write_text("stand v 1 2 @ ~ 1 0 5  \n")
    for name in ("index.adj", "index.adv"):
        (tmp_path / name).write_text("")
    return WordNetSynonyms(tmp_path, lemmatizer)


def test_synonyms_match_and_are_counted_once(synonyms):
    assert synonyms("dogs") == synonyms("dog") == {"1", "2"}
    assert synonyms("stood") == {"5"}
    assert synonyms("frob") == frozenset()
    assert spice([("dog", "on", "sofa")], [("hound", "on", "couch")]) == 0
    # Both objects match; "on" is no word of this dictionary, so the relation does not.
    assert spice([("dog", "on", "sofa")], [("hound", "on", "couch")], synonyms) == pytest.approx(2 / 3)
    # The dog and the hound are one object.
    assert spice([("dog",), ("hound",), ("cat",)], [("dog",), ("cat",)], synonyms) == 1


@pytest.mark.skipif(not FACTUAL.exists(), reason="the FACTUAL files are not here")
def test_scores_agree_with_the_published_package(lemmatizer):
    synonyms = find_synonyms(lemmatizer)
    if synonyms is None:
        pytest.skip("WordNet is not installed (extra spice)")
    spice_evaluation = pytest.importorskip("factual_scene_graph.evaluation.spice_evaluation")
    gold = read_gold(FACTUAL / "dev.csv")[:300]
    for graph, caption in zip(parsers.get("dependency").parse([g.caption for g in gold]), gold, strict=True):
        found, true = ([lemmatizer.triple(t) for t in side] for side in (list_triples(graph), caption.triples))
        texts = [" , ".join(f"( {' , '.join(triple)} )" for triple in side) for side in (found, true)]
        theirs = spice_evaluation.eval_spice(texts[0], [texts[1]])
        assert spice(found, true, synonyms) == pytest.approx(theirs)


@pytest.mark.skipif(not FACTUAL.exists(), reason="the FACTUAL files are not here")
@pytest.mark.parametrize(
    ("parser", "expected_spice", "expected_set_match"),
    [("neural", 91.4, 76.1), ("dependency", 85.73, 68.6), ("sng", 69.59, 29.6)],
)
def test_scores_without_synonyms_on_the_dev_set(lemmatizer, parser, expected_spice, expected_set_match):
    gold = read_gold(FACTUAL / "dev.csv")
    graphs = parsers.get(parser).parse([g.caption for g in gold])
    pairs = [
        ([lemmatizer.triple(t) for t in list_triples(graph)], [lemmatizer.triple(t) for t in caption.triples])
        for graph, caption in zip(graphs, gold, strict=True)
    ]
    assert 100 * sum(spice(*pair) for pair in pairs) / len(pairs) == pytest.approx(expected_spice, abs=0.1)
    assert 100 * sum(set_match(*pair) for pair in pairs) / len(pairs) == pytest.approx(expected_set_match, abs=0.1)


@pytest.mark.parametrize(
    ("parser", "file", "least"),
    [
        ("neural", "gold_captions", 0.69),
        ("neural", "gold_paragraphs", 0.70),
        ("dependency", "gold_captions", 0.64),
        ("dependency", "gold_paragraphs", 0.64),
        ("sng", "gold_captions", 0.55),
    ],
)
def test_captions_in_the_wild_are_read_no_worse_than_before(lemmatizer, parser, file, least):
    gold = read_gold(Path(__file__).parents[1] / f"{file}.jsonl", "test")
    assert len(gold) in {200, 51}
    graphs = parsers.get(parser).parse([caption.caption for caption in gold])
    assert score_graphs(graphs, gold, lemmatizer, None).spice >= least
