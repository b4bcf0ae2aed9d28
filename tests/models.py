"""A model of the smallest size, and the released inputs as it takes them."""

from pretrain.model.config import ModelConfig

SMALL = ModelConfig(
    vocab_size=11, max_position_embeddings=7, sent_type_vocab_size=2, hidden_size=8, num_attention_heads=2,
    t_biattention_id=(1,), v_feature_size=6, v_hidden_size=4, v_num_attention_heads=1, v_intermediate_size=5,
    v_biattention_id=(0,), co_hidden_size=6, co_num_attention_heads=3, class_size=3, hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1, initializer_range=0.02,
)  # fmt: skip


def released_inputs(tensors, task):
    """The encoder's inputs, and the tensors after them, of what a released reader hands on."""
    tensors = list(tensors)
    if task == "refcoco_plus":
        del tensors[4]  # the number of image rows
    token_ids, position_ids, segment_ids, text_mask, features, locations, image_mask, *others = tensors
    inputs = {
        "token_ids": token_ids.squeeze(2),
        "position_ids": position_ids.squeeze(2),
        "segment_ids": segment_ids.squeeze(2),
        "text_mask": text_mask.squeeze(2) > 0,
        "features": features,
        "locations": locations,
        "image_mask": image_mask.squeeze(2) > 0,
    }
    return inputs, others
