"""Multi-head attention and the post-norm layer that both streams and the co-layers are built of.

Shape suffixes: B samples, Q query positions, K memory positions, H heads, D width of the queries' stream, E width of
the memory's stream, A attention width (all heads together).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.model.config import ModelConfig

LAYER_NORM_EPS = 1e-5  # Paddle's default, which the released code keeps; BERT has 1e-12.


def key_mask(mask: Tensor | None) -> Tensor | None:
    """Turn a padding mask into an attention mask that no softmax over nothing can come from.

    The released code adds -10000 to padded keys. Where every key of a sample is padding this shifts all scores alike
    and so masks nothing; the same is done here, where -inf would give NaN.

    Args:
        mask: bool [B, K], True for real positions; None where all are.

    Returns:
        bool [B, 1, 1, K], True for keys to attend to; broadcasts over heads and queries. None stays None, which flash
        attention needs; with a mask, CUDA has the memory-efficient and cuDNN kernels.
    """
    if mask is None:
        return None
    return (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention of one sequence to another, or to itself, with four biased projections."""

    def __init__(self, width: int, memory_width: int, attention_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, attention_width)
        self.key = nn.Linear(memory_width, attention_width)
        self.value = nn.Linear(memory_width, attention_width)
        self.output = nn.Linear(attention_width, width)

    def forward(self, states_BQD: Tensor, memory_BKE: Tensor, memory_mask_B11K: Tensor | None) -> Tensor:
        """Return what each query position gathers from the memory, float [B, Q, D]."""
        context_BHQd = F.scaled_dot_product_attention(
            self._split_heads(self.query(states_BQD)),
            self._split_heads(self.key(memory_BKE)),
            self._split_heads(self.value(memory_BKE)),
            attn_mask=memory_mask_B11K,
            dropout_p=self.dropout if self.training else 0.0,
        )
        context_BQA = context_BHQd.transpose(1, 2).flatten(2)
        attended_BQD: Tensor = self.output(context_BQA)
        return attended_BQD

    def _split_heads(self, projected_BLA: Tensor) -> Tensor:
        samples, length, attention_width = projected_BLA.shape
        head_width = attention_width // self.heads
        return projected_BLA.view(samples, length, self.heads, head_width).transpose(1, 2)  # [B, H, L, A / H]


class FeedForward(nn.Module):
    """Two projections with the exact (erf) GELU between them; no dropout inside, as in the released code."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, inner_width)
        self.contract = nn.Linear(inner_width, width)

    def forward(self, states: Tensor) -> Tensor:
        """Map float [..., D] to float [..., D]."""
        transformed: Tensor = self.contract(F.gelu(self.expand(states)))
        return transformed


class AttentionLayer(nn.Module):
    """Attention, then feed-forward; each is followed by dropout, the residual and layer normalisation (post-norm).

    With its own states as memory this is a self-attention layer; with the other stream's, one half of a co-layer.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        width: int,
        memory_width: int,
        attention_width: int,
        heads: int,
        inner_width: int,
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(
            width, memory_width, attention_width, heads, config.attention_probs_dropout_prob
        )
        self.attention_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.feed_forward = FeedForward(width, inner_width)
        self.feed_forward_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states_BQD: Tensor, memory_BKE: Tensor, memory_mask_B11K: Tensor | None) -> Tensor:
        """Return the layer's new states, float [B, Q, D]."""
        attended_BQD = self.attention(states_BQD, memory_BKE, memory_mask_B11K)
        states_BQD = self.attention_norm(states_BQD + self.dropout(attended_BQD))
        new_states_BQD: Tensor = self.feed_forward_norm(states_BQD + self.dropout(self.feed_forward(states_BQD)))
        return new_states_BQD
