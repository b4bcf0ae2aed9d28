"""Heads and losses by what they must do whatever the weights."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from finetune.heads import (
    RegionScoreHead,
    RetrievalHead,
    VcrHead,
    VqaHead,
    compute_choice_loss,
    compute_circle_loss,
    compute_region_loss,
    compute_retrieval_loss,
)
from pretrain.model.encoder import ErnieViLOutput
from pretrain.model.heads import MatchHead
from tests.models import SMALL

CONFIG = SMALL.model_copy(update={"co_hidden_size": 60, "attention_probs_dropout_prob": 0.5})


def encoded(samples=6, seed=0):
    random = torch.Generator().manual_seed(seed)
    shapes = (samples, 5, 8), (samples, 3, 4), (samples, 60), (samples, 60)
    return ErnieViLOutput(*(torch.randn(shape, generator=random) for shape in shapes))


@pytest.mark.parametrize(
    ("head", "shape", "random"),
    [
        (VcrHead(CONFIG), (2, 6), True),
        (VqaHead(CONFIG, answers=9, hidden_size=40), (6, 9), True),
        (RetrievalHead(CONFIG), (6,), False),
        (RegionScoreHead(CONFIG), (6, 3), False),
        (RegionScoreHead(CONFIG, dropout=0.5), (6, 3), True),
    ],
)
def test_logits_and_dropout(head, shape, random):
    assert head(encoded()).shape == shape
    assert torch.equal(head.train()(encoded()), head(encoded())) != random
    assert torch.equal(head.eval()(encoded()), head(encoded()))


def test_every_parameter_has_a_released_name_and_no_two_heads_share_theirs():
    heads = [VqaHead(CONFIG, answers=2), VcrHead(CONFIG), RetrievalHead(CONFIG), RegionScoreHead(CONFIG)]
    for head in heads:
        assert {name for name, _ in head.named_parameters()} == head.released.keys()
        assert set(head.released_alone) <= {name for name, _ in head.named_children()}
    released = [name for head in heads for name in head.released.values()]
    assert len(set(released)) == len(released)


def test_initial_weights():
    torch.manual_seed(0)
    vqa = VqaHead(CONFIG, answers=90, hidden_size=300)
    for layer in (vqa.hidden, vqa.output):
        bound = math.sqrt(3 / sum(layer.weight.shape))
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()
    assert VcrHead(CONFIG).qa.output.weight.abs().max() <= 2 * CONFIG.initializer_range
    biases = torch.stack([RetrievalHead(CONFIG).match.output.bias for _ in range(50)])
    assert -1 <= biases.min() < -0.5
    assert 0.5 < biases.max() <= 1


def test_a_pretrained_matching_head_ranks_pairs_as_it_is():
    pretrained, head = MatchHead(60, 0.1).eval(), RetrievalHead(CONFIG)
    head.match.load_state_dict(pretrained.state_dict())
    pairs = encoded()
    assert torch.equal(head(pairs), pretrained(pairs.pooled_text, pairs.pooled_image))


def test_both_forms_of_the_choice_loss_prefer_the_right_choice():
    wrong, right = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.0, 2.0, -1.0]])
    answer = torch.tensor([1])
    for form in ("sigmoid", "softmax"):
        assert compute_choice_loss(right, answer, form) < compute_choice_loss(wrong, answer, form)
    assert compute_choice_loss(wrong, answer, "softmax").item() == pytest.approx(math.log(math.e**2 + 1 + 1 / math.e))
    losses = [math.log1p(math.exp(x)) for x in (2.0, -0.0, -1.0)]
    assert compute_choice_loss(wrong, answer).item() == pytest.approx(sum(losses) / 3)


@given(st.integers(1, 4), st.integers(1, 8), st.floats(0, 0.5), st.sampled_from([1.0, 32.0, 256.0]), st.integers(0, 99))
def test_the_circle_loss_is_that_of_the_definition(samples, negatives, margin, scale, seed):
    random = np.random.default_rng(seed)
    sp, sn = random.uniform(0, 1, samples), random.uniform(0, 1, (samples, negatives))
    wanted = []
    for p, row in zip(sp, sn, strict=True):
        far = sum(np.exp(scale * max(0, n + margin) * (n - margin)) for n in row)
        wanted.append(np.log1p(far * np.exp(-scale * max(0, 1 + margin - p) * (p - 1 + margin))))
    found = compute_circle_loss(torch.from_numpy(sp), torch.from_numpy(sn), margin, scale)
    assert found.item() == pytest.approx(np.mean(wanted), rel=1e-9)


def test_the_weights_of_the_circle_loss_are_constants():
    positive = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    negative = torch.tensor([[0.6]], dtype=torch.float64, requires_grad=True)
    compute_circle_loss(positive, negative, 0.25, 2.0).backward()
    logit = 2 * (0.6 + 0.25) * (0.6 - 0.25) - 2 * (1.25 - 0.4) * (0.4 - 0.75)
    slope = 1 / (1 + math.exp(-logit))
    assert positive.grad.item() == pytest.approx(-slope * 2 * (1.25 - 0.4))
    assert negative.grad.item() == pytest.approx(slope * 2 * (0.6 + 0.25))


def test_the_retrieval_loss_takes_the_false_pairs_in_two_halves():
    scores = torch.tensor([[3.0, 5, 4, -1, -2, -3, -4]])
    loss, within, between = (
        compute_retrieval_loss(scores[:, order], margin=0.3, scale=32.0).item()
        for order in ([0, 1, 2, 3, 4, 5, 6], [0, 3, 1, 2, 6, 4, 5], [0, 1, 4, 3, 2, 5, 6])
    )
    assert within == pytest.approx(loss, rel=1e-12)
    assert between > 1.5 * loss
    positive, negatives = scores.sigmoid()[:, 0], scores.sigmoid()[:, 1:]
    halves = [compute_circle_loss(positive, half, 0.3, 32.0).item() for half in (negatives[:, :3], negatives[:, 3:])]
    assert loss == pytest.approx(sum(halves) / 2)


def test_the_retrieval_loss_is_finite_for_any_scores():
    scores = torch.tensor([[60.0, -60, 3, 0, -1, 60, 2], [-60, 60, 60, 60, 60, 60, 60]], requires_grad=True)
    loss = compute_retrieval_loss(scores, scale=256.0)
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()


def test_the_region_loss_does_not_see_padding():
    scores, overlaps = torch.randn(2, 4), torch.rand(2, 4)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    loss = compute_region_loss(scores, overlaps, mask)
    assert compute_region_loss(scores + 50 * ~mask, overlaps + 1 * ~mask, mask) == loss
    kept = F.binary_cross_entropy_with_logits(scores[mask], overlaps[mask], reduction="sum")
    assert loss.item() == pytest.approx(kept.item())
