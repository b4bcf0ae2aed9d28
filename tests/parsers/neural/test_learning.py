"""Teachers: a BERT under the network, captions made for it to read, and what is learned from what it says."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from torch.nn import functional as F

from parsers.lemmatizer import Lemmatizer
from parsers.neural.network import Network, Scores, WordEncoder
from parsers.neural.parser import load, save
from parsers.neural.pieces import PieceEncoder
from parsers.neural.words import split
from parsers.train.alignment import Aligner
from parsers.train.augmentation import joined, spliced
from parsers.train.learning import Example, graph_targets, make_labels, taught_targets, teach


def states_by_the_book(weights, pieces):
    """BERT (arXiv 1810.04805) or MPNet (arXiv 2004.09297) for one caption."""
    is_mpnet = "encoder.relative_attention_bias.weight" in weights
    parts = (
        ("attn.q", "attn.k", "attn.v", "attn.o")
        if is_mpnet
        else ("self.query", "self.key", "self.value", "output.dense")
    )
    bias = bert_bias = torch.zeros(2, len(pieces), len(pieces))
    places = weights["embeddings.position_embeddings.weight"]
    if is_mpnet:
        places = places[2:]
        table = weights["encoder.relative_attention_bias.weight"]
        bias = torch.stack(
            [torch.stack([table[bucket(j - i)] for j in range(len(pieces))]) for i in range(len(pieces))]
        )
        bias = bias.permute(2, 0, 1)
        assert not torch.equal(bias, bert_bias)
    else:
        places = places + weights["embeddings.token_type_embeddings.weight"][0]

    def linear(states, name):
        return F.linear(states, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(states, name):
        return F.layer_norm(states, states.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    states = weights["embeddings.word_embeddings.weight"][pieces] + places[: len(pieces)]
    states = norm(states, "embeddings.LayerNorm")
    for i in range(2):
        layer = f"encoder.layer.{i}"
        query, key, value = (
            linear(states, f"{layer}.attention.{part}").view(len(pieces), 2, -1).transpose(0, 1) for part in parts[:3]
        )
        attended = (query @ key.mT / key.shape[-1] ** 0.5 + bias).softmax(-1) @ value
        attended = linear(attended.transpose(0, 1).reshape(len(pieces), -1), f"{layer}.attention.{parts[3]}")
        states = norm(states + attended, f"{layer}.attention.{'' if is_mpnet else 'output.'}LayerNorm")
        inner = linear(F.gelu(linear(states, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        states = norm(states + inner, f"{layer}.output.LayerNorm")
    return states


def bucket(ahead):
    """Of eight rows, four look back: distances 0, 1, 2 to 15, farther; and four look ahead."""
    distance = abs(ahead)
    return (4 if ahead > 0 else 0) + (distance if distance < 2 else 2 if distance < 16 else 3)


@pytest.mark.parametrize(("model", "shift"), [("bert", 0), ("mpnet", 3)])
def test_a_word_is_its_first_and_its_last_piece(model, shift, request):
    folder = request.getfixturevalue(model)
    weights = load_file(folder / "model.safetensors")
    encoder = PieceEncoder.from_pretrained(folder).eval()
    captions = [split("dogs on a red mat"), split("dog 🐶 on mats hats")]
    pieces, first, last = encoder.inputs(captions)
    marks = {"bert": [2, 3, 0], "mpnet": [0, 2, 1]}[model]
    assert pieces[0].tolist() == [marks[0], *(shift + i for i in (6, 8, 9, 4, 10, 12)), *marks[1:]]
    states = encoder.states(pieces)
    for row, length, found in zip(pieces, (8, 9), states, strict=True):
        torch.testing.assert_close(found[:length], states_by_the_book(weights, row[:length]), atol=1e-5, rtol=1e-5)
    vectors = encoder(pieces, first, last)
    assert vectors.dtype == torch.float32
    for found, ends in zip(vectors[0], [(1, 2), (3, 3), (4, 4), (5, 5), (6, 6)], strict=True):
        torch.testing.assert_close(found, states[0, list(ends)].flatten(), atol=0.1, rtol=0.05)  # bfloat16
    torch.testing.assert_close(vectors[1, -1], states[1, [6, 7]].flatten(), atol=0.1, rtol=0.05)


def test_far_pieces_share_a_row(mpnet):
    encoder = PieceEncoder.from_pretrained(mpnet).eval()
    pieces, *_ = encoder.inputs([split("dogs on a red mat " * 5)])
    weights = load_file(mpnet / "model.safetensors")
    torch.testing.assert_close(encoder.states(pieces)[0], states_by_the_book(weights, pieces[0]), atol=1e-5, rtol=1e-5)


def test_word_vectors_keep_distances(mpnet):
    encoder = PieceEncoder.from_pretrained(mpnet)
    words = ["man", "dogs", "hat", "red", "on", "mats", "zebra", "a", "wearing"]
    vectors = encoder.word_vectors(words, 8)
    table = encoder.words.weight
    dogs = (table[9] + table[11]) / 2
    torch.testing.assert_close((vectors[1] - vectors[0]).norm(), (dogs - table[8]).norm())
    assert vectors.mean(0).abs().max() < 1e-5
    assert encoder.word_vectors(words, 2).shape == (9, 2)


def test_a_network_starts_from_word_vectors():
    words = ["", "man", "dog", "hat"]
    encoder = WordEncoder(words, width=8)
    before = encoder.words.weight.detach().clone()
    vectors = torch.randn(4, 6) * 7
    encoder.start_from(vectors)
    after = encoder.words.weight.detach()
    torch.testing.assert_close(after[1:, :6] / after[1, 0], vectors[1:] / vectors[1, 0])
    torch.testing.assert_close(after[1:, 6:], before[1:, 6:])
    assert not after[0].any()
    assert 0.2 < after[1:, :6].std() < 0.4


@pytest.mark.parametrize("model", ["bert", "mpnet"])
def test_files_of_other_models_are_refused(model, request, tmp_path):
    shutil.copytree(request.getfixturevalue(model), tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    with pytest.raises(ValueError, match="no BERT and no MPNet"):
        PieceEncoder.from_pretrained(tmp_path)


def test_a_tokenizer_that_is_not_berts_is_refused():
    tokenizer = Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match=r"\[CLS\]"):
        PieceEncoder({}, tokenizer)


CAPTIONS = [
    ("a man wearing a red hat", [("man", "wear", "hat"), ("hat", "is", "red")]),
    ("two dogs on a big mat", [("dogs", "is", "2"), ("dogs", "on", "mat"), ("mat", "is", "big")]),
    ("the leg of a man", [("man", "have", "leg")]),
    ("red dog", [("dog", "is", "red")]),
]


@pytest.fixture(scope="module")
def examples():
    align = Aligner(Lemmatizer())
    return [Example(words, align(words, triples)) for text, triples in CAPTIONS * 3 for words in [split(text)]]


def test_a_network_over_bert_is_saved_and_loaded(bert, examples, tmp_path):
    labels = make_labels(examples, [])
    torch.manual_seed(0)
    network = Network(PieceEncoder.from_pretrained(bert), labels).eval()
    save(network, tmp_path)
    again = load(tmp_path)
    caption = [split("two dogs on a red mat")]
    for ours, theirs in zip(network.score(caption), again.score(caption), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)  # weights are kept in float16


def test_what_a_sure_teacher_says_is_the_graph(examples):
    labels = make_labels(examples, [])
    for example in examples[:4]:
        true = graph_targets([example], labels)
        odds = [20 * (2 * tensor[0] - 1) for tensor in true]
        cube = true.triples[0]
        sure = Scores(
            odds[0], odds[1], 20 * (2 * cube.amax(2) - 1), 20 * (2 * cube.amax(1) - 1), 20 * (2 * cube.amax(0) - 1),
            odds[3], odds[5], odds[6],
        )  # fmt: skip
        said = taught_targets([sure])
        for name in ("roles", "attributes", "triples", "anchors"):
            torch.testing.assert_close(getattr(said, name), getattr(true, name), msg=name)
        for name in ("relations", "edits"):
            true_labels, said_labels = getattr(true, name), getattr(said, name)
            torch.testing.assert_close(said_labels * true_labels, true_labels, msg=name)


def test_teachers_are_averaged_and_every_caption_is_read(examples):
    labels = make_labels(examples, [])
    torch.manual_seed(0)
    teachers = [Network(WordEncoder(labels.words, width=8), labels).eval() for _ in range(2)]
    taught = teach(examples, teachers, lambda _: True, size=2)
    assert [example.words for example in taught] == [example.words for example in examples]
    for example in taught:
        both = [teacher.score([example.words]).roles[0] for teacher in teachers]
        torch.testing.assert_close(example.taught.roles.float(), (both[0] + both[1]) / 2, atol=1e-2, rtol=1e-2)
        assert example.graph is not None


def test_what_makes_no_word_is_not_taught(examples):
    labels = make_labels(examples, [])
    teacher = Network(WordEncoder(labels.words, width=8), labels).eval()
    assert labels.edits == ("-0+", "-3+", "=2", "=have")
    taught = teach(examples[:1], [teacher], {"wear"}.__contains__)[0].taught
    for form, odds in zip(examples[0].words.forms, taught.edits, strict=True):
        assert odds.isfinite().all(0).tolist() == [True, form == "wearing", True, True]
    targets = taught_targets([taught])
    assert targets.edits.isfinite().all()
    assert not targets.edits[0, 1, :, 1].any()


@given(first=st.integers(0, 3), second=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_spliced_caption_is_made_of_both(examples, first, second, seed):
    a, b = examples[first].words.forms, examples[second].words.forms
    made = spliced(examples[first], examples[second], np.random.default_rng(seed))
    forms = made.words.forms
    start = next((i for i, (x, y) in enumerate(zip(a, forms, strict=False)) if x != y), min(len(a), len(forms)))
    text = " ".join(forms)
    pieces = [" ".join(b[k:m]) for k in range(len(b)) for m in range(k + 1, len(b) + 1)]
    places = [(i, j) for i in range(start + 1) for j in range(i + 1, len(a) + 1)]
    assert any(text == " ".join([*a[:i], piece, *a[j:]]) for piece in pieces for i, j in places)
    assert made.graph is None
    assert len(made.words.places) == len(forms)


def test_what_follows_comes_along_at_the_end(examples):
    made = {" ".join(spliced(examples[2], examples[1], np.random.default_rng(i)).words.forms) for i in range(50)}
    assert made == {
        "the two dogs of a man", "the big mat of a man", "the leg of a two dogs on a big mat", "the leg of a big mat",
    }  # fmt: skip


def test_joined_captions_keep_both_graphs(examples):
    both = joined(examples[3], "and", examples[2])
    forms = both.words.forms
    assert " ".join(forms) == "red dog and the leg of a man"
    assert {forms[phrase.last] for phrase, _ in both.graph.objects} == {"dog", "leg", "man"}
    assert [(forms[r.subject], forms[r.anchor], forms[r.object]) for r in both.graph.relations] == [
        ("man", "of", "leg")
    ]
