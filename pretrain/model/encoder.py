"""ERNIE-ViL's two-stream encoder (arXiv 2006.16934, section 3.2), equal to the released Paddle code layer by layer.

Shape suffixes: B samples, T text positions, R image rows (row 0 is the global image row), D hidden_size,
V v_hidden_size, F v_feature_size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from parsers.checksums import forget_checksums, write_checksums
from parsers.command import InputError
from pretrain.model.attention import LAYER_NORM_EPS, AttentionLayer, key_mask
from pretrain.model.config import ModelConfig
from shards.storage.weights import load_weights, read_weights, write_weights

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""Files of a model folder."""
ENCODER = "ernie_vil."
"""Prefix of the encoder's tensors in the file of weights; what else is in there are heads."""


@dataclass(frozen=True)  # no slots: DeepSpeed's ZeRO 3 looks into what a module returns by vars()
class ErnieViLOutput:
    """The last states of both streams and their pooled first rows. Rows of padding hold finite, meaningless values."""

    text: Tensor  # float [B, T, hidden_size]
    image: Tensor  # float [B, R, v_hidden_size]
    pooled_text: Tensor  # float [B, co_hidden_size], from [CLS]
    pooled_image: Tensor  # float [B, co_hidden_size], from the global image row


class TextEmbeddings(nn.Module):
    """Word, position and segment embeddings, summed, normalised, dropped out. [PAD] is a word like any other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segment = nn.Embedding(config.sent_type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, token_ids_BT: Tensor, position_ids_BT: Tensor, segment_ids_BT: Tensor) -> Tensor:
        """Return float [B, T, D] for three int64 [B, T]."""
        summed_BTD = self.word(token_ids_BT) + self.position(position_ids_BT) + self.segment(segment_ids_BT)
        embedded_BTD: Tensor = self.dropout(self.norm(summed_BTD))
        return embedded_BTD


class ImageEmbeddings(nn.Module):
    """Projected region features and projected box locations, summed, normalised, dropped out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.feature = nn.Linear(config.v_feature_size, config.v_hidden_size)
        self.location = nn.Linear(5, config.v_hidden_size)
        self.norm = nn.LayerNorm(config.v_hidden_size, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, features_BRF: Tensor, locations_BR5: Tensor) -> Tensor:
        """Return float [B, R, V]; the inputs may be of any float type (shards store features as float16)."""
        dtype = self.feature.weight.dtype
        summed_BRV = self.feature(features_BRF.to(dtype)) + self.location(locations_BR5.to(dtype))
        embedded_BRV: Tensor = self.dropout(self.norm(summed_BRV))
        return embedded_BRV


class CoLayer(nn.Module):
    """Each stream attends to the other one. Both read the states from before the layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.text = AttentionLayer(
            config,
            width=config.hidden_size,
            memory_width=config.v_hidden_size,
            attention_width=config.co_hidden_size,
            heads=config.co_num_attention_heads,
            inner_width=config.intermediate_size,
        )
        self.image = AttentionLayer(
            config,
            width=config.v_hidden_size,
            memory_width=config.hidden_size,
            attention_width=config.co_hidden_size,
            heads=config.co_num_attention_heads,
            inner_width=config.v_intermediate_size,
        )

    def forward(
        self, text_BTD: Tensor, image_BRV: Tensor, text_mask_B11T: Tensor | None, image_mask_B11R: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the new text states [B, T, D] and image states [B, R, V]."""
        return self.text(text_BTD, image_BRV, image_mask_B11R), self.image(image_BRV, text_BTD, text_mask_B11T)


class ErnieViL(
    nn.Module,
    ModelHubMixin,
    library_name="ernie-vil-pytorch",
    license="apache-2.0",
    tags=["vision-and-language", "ernie-vil"],
):
    """Embeddings, text layers, image layers and co-layers in the configured order, and a pooler for each stream.

    ``ErnieViL.from_pretrained(folder or hub id)`` reads what pretraining, `finetune.import_checkpoint` and
    ``save_pretrained`` write; heads in the file are left out.

    Attributes:
        gradient_checkpointing: keep only the states between layers and compute the rest again in the backward pass.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        try:
            self._add_layers(config)
        except (MemoryError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else "no memory is left"
            raise InputError(f"a model of {config.parameters:,} parameters cannot be made: {reason}") from error

    def _add_layers(self, config: ModelConfig) -> None:
        self.text_embeddings = TextEmbeddings(config)
        self.image_embeddings = ImageEmbeddings(config)
        self.text_layers = nn.ModuleList(_text_layer(config) for _ in range(config.num_text_layers))
        self.image_layers = nn.ModuleList(_image_layer(config) for _ in range(config.num_image_layers))
        self.co_layers = nn.ModuleList(CoLayer(config) for _ in range(config.num_co_layers))
        self.text_pooler = nn.Linear(config.hidden_size, config.co_hidden_size)
        self.image_pooler = nn.Linear(config.v_hidden_size, config.co_hidden_size)
        initialize(self, config.initializer_range)

    def _save_pretrained(self, save_directory: Path) -> None:
        weights = {ENCODER + n: t.detach().float().cpu().contiguous() for n, t in self.state_dict().items()}
        forget_checksums(save_directory)
        write_weights(weights, save_directory / WEIGHTS)
        self.config.save(save_directory / CONFIG)
        write_checksums(save_directory, (WEIGHTS, CONFIG))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **kwargs: Any,
    ) -> ErnieViL:
        def find(name: str) -> Path:
            if Path(model_id).is_dir():
                return Path(model_id) / name
            return Path(
                hf_hub_download(
                    model_id,
                    name,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )

        if unknown := kwargs.keys() - {"config"}:  # the mixin hands over the JSON that is read here
            raise TypeError(f"from_pretrained takes no {', '.join(sorted(unknown))}")
        model = cls(ModelConfig.load(find(CONFIG)))
        path = find(WEIGHTS)
        weights = {n.removeprefix(ENCODER): t for n, t in read_weights(path).items() if n.startswith(ENCODER)}
        load_weights(model, weights, path)
        return model.eval()

    def forward(
        self,
        *,
        token_ids: Tensor,
        position_ids: Tensor,
        segment_ids: Tensor,
        text_mask: Tensor | None,
        features: Tensor,
        locations: Tensor,
        image_mask: Tensor | None,
    ) -> ErnieViLOutput:
        """Encode pairs of a text and an image.

        Args:
            token_ids: int64 [B, T], [CLS] first.
            position_ids: int64 [B, T].
            segment_ids: int64 [B, T].
            text_mask: bool [B, T], False for padding; None where no text is padded.
            features: float [B, R, F], row 0 for the whole image.
            locations: float [B, R, 5], (x1/W, y1/H, x2/W, y2/H, share of the image's area).
            image_mask: bool [B, R], False for padding; None where no image is padded.
        """
        text_states = self.encode_text(
            token_ids=token_ids, position_ids=position_ids, segment_ids=segment_ids, text_mask=text_mask
        )
        image_states = self.encode_image(features=features, locations=locations, image_mask=image_mask)
        return self.encode_pairs(
            text_states=text_states, text_mask=text_mask, image_states=image_states, image_mask=image_mask
        )

    def encode_text(
        self, *, token_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, text_mask: Tensor | None
    ) -> Tensor:
        """Run the text stream up to the first co-layer, where it has not met an image yet.

        Retrieval does this once for a text and repeats the result for every image.

        Returns:
            float [B, T, D], the ``text_states`` of `encode_pairs`.
        """
        text_BTD: Tensor = self.text_embeddings(token_ids, position_ids, segment_ids)
        return self._run_text_layers(text_BTD, key_mask(text_mask), 0, self.config.t_biattention_id[0])

    def encode_image(self, *, features: Tensor, locations: Tensor, image_mask: Tensor | None) -> Tensor:
        """Run the image stream up to the first co-layer, where it has not met a text yet.

        Returns:
            float [B, R, V], the ``image_states`` of `encode_pairs`.
        """
        image_BRV: Tensor = self.image_embeddings(features, locations)
        return self._run_image_layers(image_BRV, key_mask(image_mask), 0, self.config.v_biattention_id[0])

    def encode_pairs(
        self,
        *,
        text_states: Tensor,
        text_mask: Tensor | None,
        image_states: Tensor,
        image_mask: Tensor | None,
        pooled_only: bool = False,
    ) -> ErnieViLOutput:
        """Run all that follows `encode_text` and `encode_image`.

        Args:
            text_states: float [B, T, D].
            text_mask: bool [B, T], False for padding; None where no text is padded.
            image_states: float [B, R, V].
            image_mask: bool [B, R], False for padding; None where no image is padded.
            pooled_only: the last layers run for the rows that are pooled alone; the output's ``text`` and ``image``
                then hold one row.
        """
        text_ends, image_ends = self.config.t_biattention_id, self.config.v_biattention_id
        text_mask_B11T, image_mask_B11R = key_mask(text_mask), key_mask(image_mask)

        text_BTD, image_BRV = text_states, image_states
        text_start, image_start = text_ends[0], image_ends[0]
        for co_layer, text_end, image_end in zip(self.co_layers, text_ends, image_ends, strict=True):
            text_BTD = self._run_text_layers(text_BTD, text_mask_B11T, text_start, text_end)
            image_BRV = self._run_image_layers(image_BRV, image_mask_B11R, image_start, image_end)
            text_BTD, image_BRV = self._run(co_layer, text_BTD, image_BRV, text_mask_B11T, image_mask_B11R)
            text_start, image_start = text_end, image_end
        asking = slice(0, 1) if pooled_only else slice(None)
        text_BTD = self._run(self.text_layers[text_start], text_BTD[:, asking], text_BTD, text_mask_B11T)
        image_BRV = self._run(self.image_layers[image_start], image_BRV[:, asking], image_BRV, image_mask_B11R)

        return ErnieViLOutput(
            text=text_BTD,
            image=image_BRV,
            pooled_text=F.relu(self.text_pooler(text_BTD[:, 0])),  # the released poolers have ReLU, not BERT's tanh
            pooled_image=F.relu(self.image_pooler(image_BRV[:, 0])),
        )

    def _run_text_layers(self, text_BTD: Tensor, mask_B11T: Tensor | None, start: int, end: int) -> Tensor:
        for index in range(start, end):
            text_BTD = self._run(self.text_layers[index], text_BTD, text_BTD, mask_B11T)
        return text_BTD

    def _run_image_layers(self, image_BRV: Tensor, mask_B11R: Tensor | None, start: int, end: int) -> Tensor:
        for index in range(start, end):
            image_BRV = self._run(self.image_layers[index], image_BRV, image_BRV, mask_B11R)
        return image_BRV

    def _run(self, layer: nn.Module, *tensors: Tensor | None) -> Any:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *tensors, use_reentrant=False)
        return layer(*tensors)


def initialize(module: nn.Module, std: float) -> None:
    """Draw every weight matrix and embedding from a normal distribution cut at two ``std``; zero every bias.

    Layer norms keep their ones and zeros. Heads that are initialised otherwise draw again after this.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            truncated_normal_(part.weight, std)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)


def truncated_normal_(tensor: Tensor, std: float) -> None:
    """Fill a tensor from a normal distribution of mean 0, cut at two ``std``.

    Inverts the distribution function. `torch.nn.init.trunc_normal_` draws again what falls outside, which is ten times
    slower: half a minute for the base model on one core.
    """
    bound = math.erf(2 / math.sqrt(2))
    with torch.no_grad():
        tensor.uniform_(-bound, bound).erfinv_().mul_(math.sqrt(2) * std).clamp_(-2 * std, 2 * std)


def _text_layer(config: ModelConfig) -> AttentionLayer:
    return AttentionLayer(
        config,
        width=config.hidden_size,
        memory_width=config.hidden_size,
        attention_width=config.hidden_size,
        heads=config.num_attention_heads,
        inner_width=config.intermediate_size,
    )


def _image_layer(config: ModelConfig) -> AttentionLayer:
    return AttentionLayer(
        config,
        width=config.v_hidden_size,
        memory_width=config.v_hidden_size,
        attention_width=config.v_hidden_size,
        heads=config.v_num_attention_heads,
        inner_width=config.v_intermediate_size,
    )
