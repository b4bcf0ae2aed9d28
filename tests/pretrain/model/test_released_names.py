"""Released weights into and out of the model."""

import numpy as np
import pytest
import torch

from parsers.command import InputError
from pretrain.model.encoder import ErnieViL
from pretrain.model.released_names import load_released, released_arrays, released_name
from tests.pretrain.model.models import randomized, small


def test_released_weights_there_and_back():
    source, target = randomized(ErnieViL(small()), seed=1), ErnieViL(small())
    arrays = released_arrays(source)
    assert arrays["encoder_colayer_0_vl_multi_head_att_key_fc.w_0"].shape == (24, 32)
    assert arrays["encoder_colayer_2_vl_post_ffn_layer_norm_scale"].shape == (20,)
    assert load_released(target, arrays | {"vqa_fc_w_0": np.zeros(3)}) == ("vqa_fc_w_0",)
    for name, weight in target.state_dict().items():
        torch.testing.assert_close(weight, source.state_dict()[name], atol=0, rtol=0)


def test_released_weights_that_do_not_fit_are_named_and_nothing_is_loaded():
    model = ErnieViL(small())
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    arrays = released_arrays(randomized(ErnieViL(small())))
    del arrays["encoder_layer_3_ffn_fc_0.b_0"]
    arrays["image_emb.w_0"] = arrays["image_emb.w_0"].T
    with pytest.raises(InputError) as error:
        load_released(model, arrays)
    assert "encoder_layer_3_ffn_fc_0.b_0: missing" in str(error.value)
    assert "image_emb.w_0: the model needs shape (12, 20), the checkpoint has (20, 12)" in str(error.value)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    "name",
    [
        "heads.match.output.weight",
        "text_layers.0.text.attention.query.weight",
        "co_layers.0.attention.query.weight",
        "text_pooler.scale",
    ],
)
def test_no_released_name(name):
    with pytest.raises(ValueError, match="is not a parameter of ErnieViL"):
        released_name(name)
