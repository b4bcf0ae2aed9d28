"""The losses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pretrain.model.heads import PretrainingOutput
from pretrain.objectives import class_divergence, score
from pretrain.recipe import OBJECTIVES
from tests.pretrain.conftest import collator_of


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 9), st.integers(0, 1000))
def test_the_divergence_is_that_of_the_definition(k, seed):
    random = np.random.default_rng(seed)
    classes = 9
    wanted = random.dirichlet(np.ones(classes), 3)
    logits = torch.from_numpy(random.normal(size=(3, classes)))
    order = np.argsort(-wanted, axis=1)[:, :k].copy()
    kept = torch.from_numpy(np.take_along_axis(wanted, order, 1))
    found = class_divergence(logits, torch.from_numpy(order), kept)
    predicted = logits.softmax(-1).numpy()
    for row in range(3):
        rest = [c for c in range(classes) if c not in order[row]]
        p = [*wanted[row, order[row]], *([wanted[row, rest].sum()] if rest else [])]
        q = [*predicted[row, order[row]], *([predicted[row, rest].sum()] if rest else [])]
        assert found[row].item() == pytest.approx(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)), abs=1e-9)


def test_argmax_is_cross_entropy_with_the_most_likely_class(shards, plan):
    batch, whole = (collator_of(shards, region_target=t)(plan.batch(0)) for t in ("argmax", "distribution"))
    assert batch.region_targets.tolist() == whole.region_targets.tolist()
    best = whole.region_class_ids[:, 0]
    logits = torch.randn(len(best), 6)
    output = PretrainingOutput(torch.zeros(len(batch.text_labels), 50), logits, batch.matched, torch.zeros(0))
    scores = score(output, batch)
    region = OBJECTIVES.index("region")
    assert scores.loss[region].item() == pytest.approx(F.cross_entropy(logits, best, reduction="sum").item(), rel=1e-5)
    assert scores.correct[region] == (logits.argmax(1) == best).sum()
