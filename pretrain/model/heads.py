"""The pretraining heads: masked words (scene-graph nodes among them), masked regions, image-text matching.

The authors released no pretraining code. The word head has the layout of ERNIE 2.0 and BERT, the region head mirrors
it, and the matching head scores the product of the pooled vectors as the released fine-tuning does.

Shape suffixes: N masked text positions and M masked regions of the whole batch, B samples, W vocabulary size,
D hidden_size, V v_hidden_size, C co_hidden_size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.model.attention import LAYER_NORM_EPS
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL, initialize


@dataclass(frozen=True)  # no slots: see `pretrain.model.encoder.ErnieViLOutput`
class PretrainingOutput:
    """The predictions for all objectives. ``len(vocabulary_logits)`` and ``len(regions)`` may be 0."""

    vocabulary_logits: Tensor  # float [N, vocab_size], one row for each masked text position
    regions: Tensor  # float [M, region_outputs], one row for each masked region: logits of the classes, or features
    match_logits: Tensor  # float [B], log-odds that the text belongs to the image
    token_logits: Tensor  # float [L], log-odds that a word is false; empty without a head for it


class PredictionTransform(nn.Module):
    """Projection, exact GELU and layer normalisation, at unchanged width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, states: Tensor) -> Tensor:
        """Map float [N, width] to float [N, width]; N may be 0."""
        transformed: Tensor = self.norm(F.gelu(self.projection(states)))
        return transformed


class VocabularyHead(nn.Module):
    """Logits over the vocabulary; the output matrix is the word embedding, so the caller hands it in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transform = PredictionTransform(config.hidden_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, states_ND: Tensor, word_embedding_WD: Tensor) -> Tensor:
        """Return float [N, W]."""
        return F.linear(self.transform(states_ND), word_embedding_WD, self.bias)


class RegionHead(nn.Module):
    """Logits over the detector's classes, or features."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transform = PredictionTransform(config.v_hidden_size)
        self.output = nn.Linear(config.v_hidden_size, config.region_outputs)

    def forward(self, states_MV: Tensor) -> Tensor:
        """Return float [M, region_outputs]."""
        predicted: Tensor = self.output(self.transform(states_MV))
        return predicted


class MatchHead(nn.Module):
    """One logit for "this text belongs to this image", to be trained with binary cross-entropy.

    One logit rather than two classes: it is the shape of the released VCR and retrieval heads, so a pretrained
    matching head can rank pairs as it is.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, 1)

    def forward(self, pooled_text_BC: Tensor, pooled_image_BC: Tensor) -> Tensor:
        """Return float [B]."""
        logits: Tensor = self.output(self.dropout(pooled_text_BC * pooled_image_BC)).squeeze(1)
        return logits


class TokenMatchHead(nn.Module):
    """One logit for "this word is false of this image", from the state of the word after it has seen the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform = PredictionTransform(width)
        self.output = nn.Linear(width, 1)

    def forward(self, states_LD: Tensor) -> Tensor:
        """Return float [L]."""
        logits: Tensor = self.output(self.transform(states_LD)).squeeze(1)
        return logits


class ErniePretrainingHeads(nn.Module):
    """All heads. Each takes part in every step, so its parameters have gradients (zeros without targets)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.vocabulary = VocabularyHead(config)
        self.region = RegionHead(config)
        # Dropout as in the released ``get_match_score``: the attention's probability, on the product.
        self.match = MatchHead(config.co_hidden_size, config.attention_probs_dropout_prob)
        initialize(self, config.initializer_range)
        self.token_match: TokenMatchHead | None = None
        if config.token_match:  # last, so that the others have the same initial values without it
            self.token_match = TokenMatchHead(config.hidden_size)
            initialize(self.token_match, config.initializer_range)

    def forward(
        self,
        *,
        text_states: Tensor,
        region_states: Tensor,
        pooled_text: Tensor,
        pooled_image: Tensor,
        word_embedding: Tensor,
        token_states: Tensor,
    ) -> PretrainingOutput:
        """Predict from the states of the masked positions and of the words, and from the pooled vectors.

        Args:
            text_states: float [N, hidden_size].
            region_states: float [M, v_hidden_size].
            pooled_text: float [B, co_hidden_size].
            pooled_image: float [B, co_hidden_size].
            word_embedding: float [vocab_size, hidden_size], the weight of the model's own embedding.
            token_states: float [L, hidden_size], of the words that may be false.
        """
        return PretrainingOutput(
            vocabulary_logits=self.vocabulary(text_states, word_embedding),
            regions=self.region(region_states),
            match_logits=self.match(pooled_text, pooled_image),
            token_logits=token_states[:0, 0] if self.token_match is None else self.token_match(token_states),
        )


class ErnieViLForPreTraining(nn.Module):
    """The encoder with the pretraining heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ernie_vil = ErnieViL(config)
        self.heads = ErniePretrainingHeads(config)

    def forward(
        self,
        *,
        text_targets: Tensor,
        region_targets: Tensor,
        token_targets: Tensor | None = None,
        **inputs: Tensor | None,
    ) -> PretrainingOutput:
        """Encode a batch and predict at its targets; the losses are the trainer's.

        Args:
            text_targets: int64 [N], positions to predict words at, flattened: sample * T + position. N may be 0.
            region_targets: int64 [M], rows to predict, flattened: sample * R + row. M may be 0.
            token_targets: int64 [L], positions to ask whether the word is false, flattened; None: none.
            inputs: the keyword arguments of `ErnieViL.forward`.
        """
        encoded = self.ernie_vil(**inputs)
        states = encoded.text.flatten(0, 1)
        asked = states[:0] if token_targets is None else states.index_select(0, token_targets)
        output: PretrainingOutput = self.heads(
            text_states=states.index_select(0, text_targets),
            region_states=encoded.image.flatten(0, 1).index_select(0, region_targets),
            pooled_text=encoded.pooled_text,
            pooled_image=encoded.pooled_image,
            word_embedding=self.ernie_vil.text_embeddings.word.weight,
            token_states=asked,
        )
        return output
