"""The cheap score, and the pairs that it chooses."""

import numpy as np
import pytest
import torch

from finetune.tasks.retrieval.cheap_score import (
    CheapScore,
    PooledSplit,
    choose_candidates,
    compute_cheap_scores,
    find_hard_negatives,
    load_cheap_score,
    measure_shortlist,
    save_cheap_score,
    train_cheap_score,
)
from parsers.checksums import sha256_of
from parsers.command import InputError


@pytest.fixture
def pooled():
    """Eight images with two captions each, in mixed order; a caption's states are those of its image."""
    random = np.random.default_rng(0)
    images = random.normal(size=(8, 6)).astype(np.float32)
    own = random.permutation(np.repeat(np.arange(8), 2))
    return PooledSplit(torch.from_numpy(images[own]), torch.from_numpy(images), own)


def test_captions_are_grouped_by_image(pooled):
    assert [captions.tolist() for captions in pooled.captions_by_image] == [
        np.flatnonzero(pooled.own_C == image).tolist() for image in range(8)
    ]


def test_it_learns_which_caption_belongs_to_which_image(pooled):
    model = train_cheap_score(pooled, steps=60, seed=0)
    scores = compute_cheap_scores(model, pooled)
    assert scores.shape == (16, 8)
    assert (scores.argmax(1) == pooled.own_C).mean() > 0.9
    again = compute_cheap_scores(train_cheap_score(pooled, steps=60, seed=0), pooled)
    assert np.array_equal(scores, again)


def test_hard_negatives_are_the_other_images_that_fit_best(pooled):
    model = CheapScore(6, 6).eval()
    names = [f"image {number}" for number in range(8)]
    found = find_hard_negatives(model, pooled, names, 3)
    scores = compute_cheap_scores(model, pooled)
    for image, name in enumerate(names):
        best = scores[pooled.own_C == image].max(0)
        best[image] = -np.inf
        assert found[name] == [names[other] for other in np.argsort(-best)[:3]]


def test_what_a_shortlist_keeps():
    scores = np.array([[9.0, 1, 2, 3], [1, 9, 3, 2], [5, 6, 1, 2], [1, 2, 3, 9]])
    chosen = choose_candidates(scores, 1)
    assert chosen.sum() >= 4
    assert (chosen[np.arange(4), scores.argmax(1)]).all()
    assert (chosen[scores.argmax(0), np.arange(4)]).all()
    assert measure_shortlist(chosen, np.array([0, 1, 2, 3])) == {"image": 3 / 4, "text": 3 / 4, "pairs": chosen.mean()}
    assert choose_candidates(scores, 4).all()


def test_a_score_belongs_to_its_model(tmp_path, pooled):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text(name)
    model, path = CheapScore(6, 6).eval(), tmp_path / "cheap.safetensors"
    save_cheap_score(model, path, {"model": sha256_of(tmp_path / "a/model.safetensors")})
    loaded = load_cheap_score(path, tmp_path / "a")
    assert np.array_equal(compute_cheap_scores(loaded, pooled), compute_cheap_scores(model, pooled))
    with pytest.raises(InputError, match="another model"):
        load_cheap_score(path, tmp_path / "b")
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is not a cheap score"):
        load_cheap_score(path, tmp_path / "a")
