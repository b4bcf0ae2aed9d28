"""The parts of the neural parser."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parsers.gold import list_triples, read_gold
from parsers.lemmatizer import Lemmatizer
from parsers.neural import labels
from parsers.neural.decode import MAX_NODES, Decoder
from parsers.neural.inference import Inference
from parsers.neural.network import Labels, Network, Scores, WordEncoder, parts
from parsers.neural.parser import NeuralParser, load, save
from parsers.neural.spelling import Speller, lookalikes
from parsers.neural.words import MAX_WORDS, Words, split
from parsers.train.alignment import Aligner, Phrase
from parsers.train.learning import Example, batches, graph_targets, loss, make_labels, usable

FACTUAL = Path(__file__).resolve().parents[4] / "shared/data/scene_graphs/factual"


@pytest.fixture(scope="module")
def align():
    return Aligner(Lemmatizer())


# --- words and labels ---


def test_words_and_their_places():
    words = split("A man’s t-shirt, 3 dogs!")
    assert list(words.forms) == ["a", "man", "'s", "t", "-", "shirt", ",", "3", "dogs", "!"]
    assert words.places[2] == (5, 7)
    assert words.places[8] == (19, 23)


@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_every_word_is_where_it_says(text):
    words = split(text)
    assert len(words) <= MAX_WORDS
    ends = [0]
    for form, (start, end) in zip(words.forms, words.places, strict=True):
        assert text[start:end].lower().replace("’s", "'s") == form
        assert start >= ends[-1]
        ends.append(end)
    spoken = {i for start, end in words.places for i in range(start, end)}
    assert all(text[i].isspace() or not text[i].isprintable() or i in spoken for i in range(ends[-1])) or any(
        not character.isascii() for character in text
    )


@given(form=st.text("abcdefgh-", min_size=1, max_size=9), label=st.text("abcdefgh", min_size=1, max_size=9))
def test_an_edit_makes_its_label(form, label):
    assert labels.apply(labels.edit(form, label), form) == label


def test_edits_carry_over_to_other_words():
    edit = labels.edit("riding", "ride")
    assert labels.apply(edit, "hiding") == "hide"
    assert labels.apply(labels.edit("two", "2"), "pair") == "2"
    assert labels.apply(edit, "x") == "x", "too short"


@pytest.mark.parametrize(
    ("words", "label", "edit"),
    [
        (["cell", "phones"], "cellphone", "^-1+"), (["t", "shirts"], "t-shirt", "~-1+"),
        (["t", "shirt"], "t-shirt", "~-0+"), (["hot", "dogs"], "hot dog", "-1+"), (["dogs"], "dog", "-1+"),
        (["wine", "glass", "ware"], "wine glassware", "^-0+"),
        (["wooden", "toothbrush"], "wooden tooth brush", "=brush"),
    ],
)  # fmt: skip
def test_the_edit_of_a_phrase_may_join_its_last_words(words, label, edit):
    assert labels.phrase_edit(words, label) == edit


def test_frequent_labels_come_first_and_rare_ones_are_left_out():
    assert labels.vocabulary(["b", "a", "a", "b", "b", "c"], ["-"], 2) == ("-", "b", "a")


@given(st.text(min_size=1, max_size=20))
def test_parts_of_words_have_a_fixed_number(form):
    assert len(parts(form)) == 12
    assert parts(form)[0] > 0


@pytest.mark.parametrize(
    ("form", "meant"),
    [
        ("plaet", "plate"), ("pltae", "plate"), ("plte", "plte"), ("platte", "plate"), ("purpl", "purple"),
        ("wmoan", "woman"), ("womn", "womn"), ("slate", "slate"), ("plates", "plates"), ("plata", "plate"),
        ("aplate", "plate"), ("olate", "plate"), ("bluw", "blue"), ("alue", "alue"), ("blu", "blu"),
        ("bluee", "blue"), ("boqueet", "boqueet"), ("épltae", "épltae"), ("plite", "polite"),
    ],
)  # fmt: skip
def test_slips_are_repaired_and_rare_words_are_not(form, meant):
    respell = Speller(["plates", "slate"], ["woman", "plate", "blue", "purple", "polite"])
    words = respell(split(f"a {form}"))
    assert words.forms[1] == meant
    assert words.places == split(f"a {form}").places


WORDS = {"plate", "plates", "slate", "late", "palate", "blue", "glue", "bluet", "lube", "zebra"}


def test_words_that_look_like_slips_are_known():
    assert lookalikes(["plate", "blue"], WORDS.__contains__) == [
        "blue", "bluet", "glue", "late", "palate", "plate", "plates", "slate",
    ]  # fmt: skip


@given(st.text("abcdef", min_size=5, max_size=8), st.integers(0, 7), st.text("abcdefg", max_size=2), st.integers(0, 1))
def test_what_may_be_repaired_is_among_the_lookalikes(frequent, place, letters, cut):
    form = frequent[:place] + letters + frequent[place + cut :]
    repaired = Speller([], [frequent])(Words([form], [(0, len(form))])).forms[0]
    assert repaired in (form, frequent)
    assert repaired == form or form in lookalikes([frequent], lambda _: True)


# --- alignment ---


@pytest.mark.parametrize(
    ("caption", "triples", "objects", "attributes", "relations"),
    [
        (
            "two dogs sitting on a red mat",
            [("dogs", "is", "2"), ("dogs", "v:sit on", "mat"), ("mat", "is", "red")],
            {"dogs", "mat"},
            {("two", "dogs"), ("red", "mat")},
            {("dogs", "sitting on", "mat", "sit on")},
        ),
        ("man's hat", [("man", "v:have", "hat")], {"man", "hat"}, set(), {("man", "'s", "hat", "have")}),
        ("the leg of a man", [("man", "v:have", "leg")], {"man", "leg"}, set(), {("man", "of", "leg", "have")}),
        ("a car tire", [("car", "v:have", "tire")], {"car", "tire"}, set(), {("car", "", "tire", "have")}),
        (
            "a tree by a tree trunk",
            [("tree", "by", "tree trunk")],
            {"tree", "tree trunk"},
            set(),
            {("tree", "by", "trunk", "by")},
        ),
        (
            "a tree next to a tree",
            [("tree", "next to", "tree:1")],
            {"tree"},
            set(),
            {("tree", "next to", "tree", "next to")},
        ),
        (
            "a womann in a yelow hat",
            [("woman", "in", "hat"), ("hat", "is", "yellow")],
            {"womann", "hat"},
            {("yelow", "hat")},
            {("womann", "in", "hat", "in")},
        ),
    ],
)
def test_nodes_are_tied_to_their_words(align, caption, triples, objects, attributes, relations):
    words = split(caption)
    graph = align(words, triples)
    forms = words.forms
    text = lambda phrase: " ".join(forms[phrase.first : phrase.last + 1])  # noqa: E731
    assert objects <= {text(phrase) for phrase, _ in graph.objects}
    assert {(text(a.phrase), forms[a.object]) for a in graph.attributes} == attributes
    found = {(forms[r.subject], " ".join(forms[i] for i in r.words), forms[r.object], r.label) for r in graph.relations}
    assert found == relations
    assert not graph.missing


@pytest.mark.parametrize(("caption", "name"), [("a cell phone", "cellphone"), ("a wetsuit", "wet suit")])
def test_a_name_is_found_however_it_is_cut_into_words(align, caption, name):
    words = split(caption)
    ((phrase, found),) = align(words, [(name, "is", "red")]).objects
    assert found == name
    assert words.forms[phrase.first : phrase.last + 1] == caption.split()[1:]


def test_what_is_not_in_the_caption_is_missing(align):
    graph = align(split("a dog"), [("dog", "on", "sofa"), ("dog", "is", "brown")])
    assert graph.objects == ((Phrase(1, 1), "dog"),)
    assert set(graph.missing) == {("dog", "on", "sofa"), ("dog", "is", "brown")}


@pytest.mark.skipif(not FACTUAL.exists(), reason="the FACTUAL files are not here")
def test_nearly_all_of_factual_is_tied_to_words(align):
    gold = read_gold(FACTUAL / "dev_id.csv")
    aligned = [align(split(caption.caption), caption.triples) for caption in gold]
    assert sum(len(graph.missing) for graph in aligned) < 0.04 * sum(len(caption.triples) for caption in gold)


# --- learning ---

CAPTIONS = [
    ("two dogs sitting on a red mat", [("dogs", "is", "2"), ("dogs", "sit on", "mat"), ("mat", "is", "red")]),
    ("a cat on the small blue car", [("cat", "on", "car"), ("car", "is", "small"), ("car", "is", "blue")]),
    ("a man wearing a wide brimmed hat", [("man", "wear", "hat"), ("hat", "is", "wide brimmed")]),
    ("the fire hydrant is near a house", [("fire hydrant", "near", "house")]),
    ("man's hat", [("man", "have", "hat")]),
    ("a car tire", [("car", "have", "tire")]),
    ("a red cell phone", [("cellphone", "is", "red")]),
    ("a red hot dog", [("hot dog", "is", "red")]),
    ("a woman sitting at the big bench", [("woman", "sit on", "bench"), ("bench", "is", "big")]),
]


def without_plurals(triples):
    return {tuple({"dogs": "dog"}.get(part, part) for part in triple) for triple in triples}


@pytest.fixture(scope="module")
def model(align, tmp_path_factory):
    """The folder of a network that has learned a handful of captions by heart."""
    torch.manual_seed(0)
    examples = [Example(words, align(words, triples)) for text, triples in CAPTIONS * 6 for words in [split(text)]]
    examples = usable(examples)
    known = make_labels(examples, [])
    network = Network(WordEncoder(known.words, width=32, dropout=0.0, forgotten=0.0), known, dropout=0.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    for _ in range(40):
        for batch in batches(examples, 6, rng):
            scores = network(*network.inputs([example.words for example in batch]))
            value = loss(scores, graph_targets(batch, known), torch.ones(len(batch)))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    folder = tmp_path_factory.mktemp("model")
    save(network, folder)
    return folder


@pytest.fixture(scope="module")
def learned(model):
    return NeuralParser(model)


def test_a_network_can_learn_every_kind_of_node(learned):
    graphs = learned.parse([text for text, _ in CAPTIONS])
    for graph, (_, triples) in zip(graphs, CAPTIONS, strict=True):
        assert without_plurals(list_triples(graph)) == without_plurals(triples)


def test_spans_hold_the_words(learned):
    graph = learned.parse(["Two dogs sitting on a red mat"])[0]
    word = lambda span: graph.caption[span.start : span.end]  # noqa: E731
    assert {word(node.span) for node in graph.objects} == {"dogs", "mat"}
    assert {word(node.span) for node in graph.attributes} == {"Two", "red"}
    assert [word(span) for relation in graph.relations for span in relation.spans] == ["sitting on"]
    wordless = learned.parse(["a car tire"])[0].relations
    assert [relation.spans for relation in wordless] == [()]


def test_long_texts_are_read_up_to_a_bound(learned):
    for count in (MAX_NODES - 1, MAX_NODES, MAX_NODES + 1, 600):
        caption = "a cat on the small blue car , " * (count // 8)
        (graph,) = learned.parse([caption])
        assert graph.caption == caption


def test_the_version_follows_the_weights(model, learned, tmp_path):
    torch.manual_seed(1)
    known = load(model).labels
    other = Network(WordEncoder(known.words, width=8), known)
    save(other, tmp_path)
    assert NeuralParser(tmp_path).version != learned.version


def test_a_batch_keeps_captions_of_equal_length(align):
    examples = [Example(split("a " * n), align(split("a " * n), [])) for n in (1, 2, 3, 2, 1, 2)]
    found = list(batches(examples, 2, np.random.default_rng(0)))
    assert sorted(len(example.words) for batch in found for example in batch) == [1, 1, 2, 2, 2, 3]
    assert all(len({len(example.words) for example in batch}) == 1 and len(batch) <= 2 for batch in found)


def test_decoding_never_joins_a_word_with_itself(model):
    network = load(model)
    scores = network.score([split("a b c d")])
    everything = type(scores)(*(torch.ones_like(tensor) for tensor in scores))
    (graph,) = Decoder(network.labels)(["a b c d"], [split("a b c d")], everything)
    assert len(graph.objects) == 4
    assert all(relation.subject != relation.object for relation in graph.relations)


def scores_of(length: int) -> Scores:
    """Of one caption of which nothing is said."""
    never = torch.full((1, length, length), -20.0)
    labels = torch.zeros(1, length, 1), torch.zeros(1, length, 3, 1)
    return Scores(torch.full((1, length, 3), -20.0), *(never.clone() for _ in range(5)), *labels)


@pytest.mark.parametrize(
    ("chances", "nouns"),
    [((0.4, 0.45), ["plate"]), ((0.2, 0.25), []), ((0.6, 0.7), ["cup", "plate"]), ((0.1, 0.6), ["plate"])],
)
def test_what_surely_exists_goes_to_its_likeliest_noun(chances, nouns):
    caption = "red cup plate on table"
    scores = scores_of(5)
    scores.roles[0, [1, 2, 4], 0] = 1
    scores.attributes[0, 0, 1:3] = scores.anchor_subject[0, 3, 1:3] = torch.tensor(chances).logit()
    scores.anchor_object[0, 3, 4] = 0
    scores.subject_object[0, 1:3, 4] = 0
    (graph,) = Decoder(Labels(("",), ("-0+",), ("",), 0))([caption], [split(caption)], scores)
    assert [graph.objects[attribute.object].lemma for attribute in graph.attributes] == nouns
    assert [graph.objects[relation.subject].lemma for relation in graph.relations] == nouns


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    known = Labels(("", "a", "dog", "mat"), ("-0+", "-1+"), ("", "have", "in"), 2)
    network = Network(WordEncoder(known.words, width=7), known, arc=4).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


FORMS = st.sampled_from(["a", "dog", "mat", "mats", "x1", "2", "25", "'", "é"])


@given(
    st.integers(1, 12).flatmap(
        lambda length: st.lists(st.lists(FORMS, min_size=length, max_size=length), min_size=1, max_size=5)
    )
)
def test_inference_scores_as_the_network_does(network, forms):
    captions = [Words(words, ()) for words in forms]
    for found, scores in zip(Inference(network)(captions), network.score(captions), strict=True):
        torch.testing.assert_close(found, scores, atol=1e-4, rtol=1e-4)


def test_parsing_starts_from_nothing(network, tmp_path):
    """Computed beside other words, a word's numbers may differ in the last bit, and workers read different captions."""
    save(network, tmp_path)
    parser = NeuralParser(tmp_path)
    parser.parse(["a dog", "two mats"])
    parser.parse(["a mat"])
    assert list(parser._score._rows) == ["a", "mat"]


def test_forgotten_words_are_looked_up_again(network, monkeypatch):
    monkeypatch.setattr("parsers.neural.inference.MOST_FORMS", 6)
    infer = Inference(network)
    captions = [[split(text)] for text, _ in CAPTIONS if len(text.split()) < 7] * 2
    for caption in captions:
        torch.testing.assert_close(infer(caption).roles, network.score(caption).roles)


def test_a_rest_of_a_label_needs_a_first_word():
    scores = scores_of(2)
    scores.roles[0, :, 0] = 1
    scores.anchor_subject[0, 1, 0] = scores.anchor_object[0, 1, 1] = scores.subject_object[0, 0, 1] = 1
    for name, relations in (("have", 1), ("* on", 0)):
        (graph,) = Decoder(Labels(("",), ("-0+",), (name,), 0))(["car tire"], [split("car tire")], scores)
        assert len(graph.relations) == relations


@pytest.mark.parametrize("length", [MAX_NODES, MAX_NODES + 30])
def test_relations_are_found_in_long_texts(length):
    scores = scores_of(length)
    planted = {(3, 1, 5), (70, 60, 80), (length - 2, length - 9, length - 1)}
    for anchor, subject, object_ in planted:
        scores.anchor_subject[0, anchor, subject] = scores.anchor_object[0, anchor, object_] = 1
        scores.subject_object[0, subject, object_] = 1
    caption = " ".join(f"w{i}" for i in range(length))
    (graph,) = Decoder(Labels(("",), ("-0+",), ("",), 0))([caption], [split(caption)], scores)
    names = [thing.lemma for thing in graph.objects]
    assert {(r.lemma, names[r.subject], names[r.object]) for r in graph.relations} == {
        tuple(f"w{i}" for i in triple) for triple in planted
    }


@pytest.mark.parametrize(
    ("caption", "label"),
    [
        ("ball left of cube", "at the left of"),
        ("ball right of cube", "on the right side of"),
        ("ball top of cube", "top of"),
    ],
)
def test_a_side_is_the_one_that_the_caption_names(caption, label):
    scores = scores_of(4)
    scores.roles[0, [0, 3], 0] = 1
    scores.anchor_subject[0, 2, 0] = scores.anchor_object[0, 2, 3] = scores.subject_object[0, 0, 3] = 1
    scores.words[0, 2, 1] = 1
    labels = Labels(("",), ("-0+",), ("", "at the left of", "on the right side of"), 0)
    odds = torch.tensor([0.0, 2.0, 1.0]).expand(1, 4, 3)
    (graph,) = Decoder(labels)([caption], [split(caption)], scores._replace(relations=odds))
    assert [relation.lemma for relation in graph.relations] == [label]


def test_of_is_have_only_alone():
    labels = Labels(("",), ("-0+", "=have"), ("",), 0)
    for caption, words, label in (("ball right of cube", [1], "right of"), ("leg of man", [], "have")):
        length = len(caption.split())
        scores = scores_of(length)
        of, last = length - 2, length - 1
        scores.anchor_subject[0, of, 0] = scores.anchor_object[0, of, last] = scores.subject_object[0, 0, last] = 1
        scores.words[0, of, words] = 1
        edits = torch.zeros(1, length, 3, 2)
        edits[0, of, 2, 1] = 1
        (graph,) = Decoder(labels)([caption], [split(caption)], scores._replace(edits=edits))
        assert [relation.lemma for relation in graph.relations] == [label]
