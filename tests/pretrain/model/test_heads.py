"""The pretraining heads."""

import pytest
import torch
from torch.nn import functional as F

from pretrain.model.heads import ErnieViLForPreTraining
from tests.pretrain.model.models import a_batch, gradients, randomized, small


@torch.no_grad()
def test_logits_come_from_the_targets():
    model = randomized(ErnieViLForPreTraining(small())).eval()
    batch = a_batch()
    text_targets, region_targets = torch.tensor([9 * 1 + 2, 0, 9 * 2 + 6]), torch.tensor([6 * 2 + 4])
    output = model(**batch, text_targets=text_targets, region_targets=region_targets)
    encoded, heads = model.ernie_vil(**batch), model.heads

    text = encoded.text[[1, 0, 2], [2, 0, 6]]
    text = heads.vocabulary.transform.norm(F.gelu(heads.vocabulary.transform.projection(text)))
    words = text @ model.ernie_vil.text_embeddings.word.weight.T + heads.vocabulary.bias
    torch.testing.assert_close(output.vocabulary_logits, words, atol=1e-5, rtol=0)

    region = encoded.image[2:, 4]
    region = heads.region.transform.norm(F.gelu(heads.region.transform.projection(region)))
    torch.testing.assert_close(output.regions, heads.region.output(region), atol=1e-5, rtol=0)

    match = (encoded.pooled_text * encoded.pooled_image) @ heads.match.output.weight[0] + heads.match.output.bias
    torch.testing.assert_close(output.match_logits, match, atol=1e-5, rtol=0)


def test_the_output_matrix_is_the_word_embedding():
    model = ErnieViLForPreTraining(small())
    assert not [name for name, weight in model.heads.named_parameters() if 60 in weight.shape and weight.dim() == 2]
    batch = a_batch() | {"text_targets": torch.tensor([1]), "region_targets": torch.tensor([], dtype=torch.int64)}
    unused = sorted(set(range(60)) - set(batch["token_ids"].flatten().tolist()))
    model(**batch).vocabulary_logits.square().sum().backward()
    assert (model.ernie_vil.text_embeddings.word.weight.grad[unused] != 0).any(dim=1).all()


@pytest.mark.parametrize("samples", [3, 0])
@pytest.mark.parametrize("training", [True, False])
def test_heads_without_targets_have_zero_gradients(samples, training):
    """A rank may get a batch without targets, or the empty slice of an epoch's last batch."""
    model = randomized(ErnieViLForPreTraining(small())).train(training)
    nowhere = torch.tensor([], dtype=torch.int64)
    batch = a_batch((9, 4, 7)[:samples], (3, 6, 5)[:samples])
    output = model(**batch, text_targets=nowhere, region_targets=nowhere)
    assert output.vocabulary_logits.shape == (0, 60)
    assert output.regions.shape == (0, 17)
    assert output.match_logits.shape == (samples,)
    found = gradients(model, **batch, text_targets=nowhere, region_targets=nowhere)
    assert not [name for name, gradient in found.items() if gradient is None]
    for name, gradient in found.items():
        assert gradient.isfinite().all(), name
        if not samples or name.startswith(("heads.vocabulary", "heads.region")):
            assert (gradient == 0).all(), name
    assert (found["heads.match.output.weight"] != 0).any() == bool(samples)


def test_the_head_for_false_words_changes_no_other_weight():
    """It is made last, so a run without it begins with the weights that it always had."""
    torch.manual_seed(0)
    plain = ErnieViLForPreTraining(small()).state_dict()
    torch.manual_seed(0)
    asking = ErnieViLForPreTraining(small(token_match=True)).state_dict()
    assert asking.keys() - plain.keys() == {name for name in asking if name.startswith("heads.token_match.")}
    assert all((asking[name] == plain[name]).all() for name in plain)


def test_it_is_asked_at_the_words_whether_they_are_false():
    model = randomized(ErnieViLForPreTraining(small(token_match=True))).eval()
    batch, nowhere = a_batch((9, 4), (3, 6)), torch.tensor([], dtype=torch.int64)
    words = torch.tensor([1, 3, 11])
    output = model(**batch, text_targets=nowhere, region_targets=nowhere, token_targets=words)
    assert output.token_logits.shape == (3,)
    states = model.ernie_vil(**batch).text.flatten(0, 1)[words]
    torch.testing.assert_close(output.token_logits, model.heads.token_match(states))
    found = gradients(model, **batch, text_targets=nowhere, region_targets=nowhere, token_targets=nowhere)
    assert all(gradient is not None for gradient in found.values()), "a rank may have no word to ask about"
