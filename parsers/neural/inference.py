"""Fast inference: the scores of `ParserNetwork` over a `WordEncoder`, in less time.

What the first LSTM layer and the heads make of a word's vector depends on the word alone. It is computed once for all
captions that are parsed together. The LSTM's steps are plain matrix products, which need no preparation for each length
and batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parsers.neural.network import GraphScores, ParserNetwork
from parsers.neural.tokenizer import TokenizedCaption
from parsers.neural.word_encoder import WordEncoder

MAX_FORMS = 20_000
"""Number of words that are remembered; the shipped model takes 7 kB for each."""


class Inference:
    """Scores captions as a trained network does.

    Args:
        network: a network over a `WordEncoder`; its weights must not change afterwards.
    """

    @torch.inference_mode()
    def __init__(self, network: ParserNetwork) -> None:
        assert isinstance(network.encoder, WordEncoder)
        self._network, self._encoder = network, network.encoder
        lstm = self._encoder.lstm
        self._layers = [_read_layer(lstm, i) for i in range(lstm.num_layers)]
        heads = (network.ends, network.roles, network.relations, network.edits)
        self._sizes = [head.out_features for head in heads]
        weight = torch.cat([head.weight for head in heads]).t()
        states = 2 * lstm.hidden_size
        self._state_weight, self._vector_weight = weight[:states].contiguous(), weight[states:].contiguous()
        self._bias = torch.cat([head.bias for head in heads])
        self._rows: dict[str, int] = {}
        self._gates, self._heads = (bias.new_empty(MAX_FORMS, len(bias)) for bias in (self._layers[0].bias, self._bias))

    def forget(self) -> None:
        """Drops what was computed for earlier words.

        Beside other words, a word's results may differ in the last bit. So a caller that wants the same scores from the
        same captions drops them before.
        """
        self._rows.clear()

    @torch.inference_mode()
    def __call__(self, captions: Sequence[TokenizedCaption]) -> GraphScores:
        """Scores captions of equal length."""
        rows = self._look_up(captions)
        states = self._states(rows).flatten(0, 1)
        heads = F.embedding(rows, self._heads)
        heads.flatten(0, 1).addmm_(states, self._state_weight)
        return self._network.score_heads(*torch.split(heads.transpose(0, 1), self._sizes, dim=-1))

    def _look_up(self, captions: Sequence[TokenizedCaption]) -> Tensor:
        """Returns int64 [T, B], the rows of the words in `_gates` and `_heads`; rows of new words are computed."""
        known = self._rows
        if len(known) + sum(map(len, captions)) > MAX_FORMS:
            known.clear()
        before = len(known)
        rows = [known.setdefault(form, len(known)) for words in captions for form in words.forms]
        if len(known) > before:
            self._compute_rows(list(known)[before:], before)
        return torch.tensor(rows, device=self._gates.device).view(len(captions), -1).T.contiguous()

    def _compute_rows(self, forms: Sequence[str], first: int) -> None:
        (numbers,) = self._encoder.inputs([TokenizedCaption(forms, ())])
        vectors = self._encoder.embed(numbers.to(self._gates.device))[0]
        below, new = self._layers[0], slice(first, first + len(forms))
        self._gates[new] = torch.addmm(below.bias, vectors, below.inputs)
        self._heads[new] = torch.addmm(self._bias, vectors, self._vector_weight)

    def _states(self, rows: Tensor) -> Tensor:
        """Returns the states of the upper LSTM layer, [T, B, 2 * width]."""
        below, above = self._layers
        states = _run_layer(F.embedding(rows, self._gates), below.states)
        gates = torch.addmm(above.bias, states.flatten(0, 1), above.inputs)
        return _run_layer(gates.view(*rows.shape, -1), above.states)


class _Layer(NamedTuple):
    """The weights of a bidirectional LSTM layer.

    Each direction, first forwards and then backwards, has its gates in the order input, forget, output, new value.
    """

    inputs: Tensor
    """[inputs, 8 * width]"""
    bias: Tensor
    """[8 * width]"""
    states: list[Tensor]
    """one tensor for each direction, [width, 4 * width]"""


def _read_layer(lstm: nn.LSTM, number: int) -> _Layer:
    def both(name: str) -> list[Tensor]:
        found = []
        for suffix in ("", "_reverse"):
            entry, keep, new, out = getattr(lstm, f"{name}_l{number}{suffix}").chunk(4)
            found.append(torch.cat([entry, keep, out, new]).t().contiguous())
        return found

    bias = torch.cat(both("bias_ih")) + torch.cat(both("bias_hh"))
    return _Layer(torch.cat(both("weight_ih"), dim=1), bias, both("weight_hh"))


def _run_layer(gates: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Runs a bidirectional LSTM layer and returns its states, [T, B, 2 * width].

    Args:
        gates: what the inputs contribute to the gates, [T, B, 8 * width]; it is overwritten.
        weights: what the states contribute, for each direction [width, 4 * width].
    """
    length, batch, size = gates.shape
    width = size // 8
    states = gates.new_empty(length, batch, 2 * width)
    directions = (range(length), range(length - 1, -1, -1))
    for order, weight, gate, out in zip(directions, weights, gates.chunk(2, -1), states.chunk(2, -1), strict=True):
        state = cell = None
        for i in order:
            step = gate[i] if state is None else gate[i].addmm_(state, weight)
            new = step[:, 3 * width :].tanh_()
            entry, keep, exit_ = step[:, : 3 * width].sigmoid_().chunk(3, -1)
            cell = entry * new if cell is None else torch.addcmul(entry * new, keep, cell)
            state = torch.mul(exit_, cell.tanh(), out=out[i])
    return states
