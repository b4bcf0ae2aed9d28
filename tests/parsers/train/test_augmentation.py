"""More captions are made of gold ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parsers.train.augmentation import JOINTS, SPLICES, join_captions, join_randomly, splice_phrase, splice_randomly


@given(first=st.integers(0, 3), second=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_spliced_caption_is_made_of_both(examples, first, second, seed):
    a, b = examples[first].words.forms, examples[second].words.forms
    made = splice_phrase(examples[first], examples[second], np.random.default_rng(seed))
    forms = made.words.forms
    start = next((i for i, (x, y) in enumerate(zip(a, forms, strict=False)) if x != y), min(len(a), len(forms)))
    text = " ".join(forms)
    pieces = [" ".join(b[k:m]) for k in range(len(b)) for m in range(k + 1, len(b) + 1)]
    places = [(i, j) for i in range(start + 1) for j in range(i + 1, len(a) + 1)]
    assert any(text == " ".join([*a[:i], piece, *a[j:]]) for piece in pieces for i, j in places)
    assert made.graph is None
    assert len(made.words.offsets) == len(forms)


def test_what_follows_comes_along_at_the_end(examples):
    made = {" ".join(splice_phrase(examples[2], examples[1], np.random.default_rng(i)).words.forms) for i in range(50)}
    assert made == {
        "the two dogs of a man", "the big mat of a man", "the leg of a two dogs on a big mat", "the leg of a big mat",
    }  # fmt: skip


def test_joined_captions_keep_both_graphs(examples):
    both = join_captions(examples[3], "and", examples[2])
    forms = both.words.forms
    assert " ".join(forms) == "red dog and the leg of a man"
    assert {forms[phrase.last] for phrase, _ in both.graph.objects} == {"dog", "leg", "man"}
    assert [(forms[r.subject], forms[r.anchor], forms[r.object]) for r in both.graph.relations] == [
        ("man", "of", "leg")
    ]


def test_a_share_of_random_pairs_is_joined(examples):
    made = join_randomly(examples, 0.5, np.random.default_rng(0))
    assert len(made) == len(examples) // 2
    known = {" ".join(example.words.forms) for example in examples}
    for example in made:
        text = " ".join(example.words.forms)
        assert any(text == f"{a} {joint} {b}" for a in known for joint in JOINTS for b in known)


def test_every_caption_gets_foreign_phrases_in_the_same_way_each_time(examples):
    made = splice_randomly(examples)
    assert len(made) == SPLICES * len(examples)
    assert made == splice_randomly(examples)
