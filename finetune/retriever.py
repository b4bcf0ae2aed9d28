"""Scores of one's own texts with one's own images: `ErnieVilForRetrieval`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from finetune.inputs import Image, Sources, TextEncoder
from finetune.model_folder import TASK, fine_tuned_folder, load, load_task, start_from
from finetune.task import FineTuned
from finetune.tasks.retrieval.score_matrix import PairScorer
from finetune.tasks.retrieval.task import Retrieval, RetrievalSettings
from parsers.command import InputError
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG
from shards.regions.table import RegionsRow
from shards.schema import Array
from shards.tokenizer import load_tokenizer
from shards.vocabulary import VOCABULARY


class ErnieVilForRetrieval:
    """Says how well texts fit images; docs/retrieval.md shows it.

    Attributes:
        model: the encoder under its head, in evaluation mode.
        max_text: positions of a text; the rest is left out.
    """

    def __init__(self, model: FineTuned, texts: TextEncoder, max_text: int, device: torch.device) -> None:
        self.model = model.to(device).eval()
        self.max_text = max_text
        self._texts, self._device = texts, device
        self._feature_size = model.ernie_vil.config.v_feature_size

    @classmethod
    def from_pretrained(cls, name: str | Path, *, device: str | torch.device | None = None) -> Self:
        """Loads what fine-tuning on retrieval wrote, or an imported release with its retrieval head.

        Args:
            name: a folder (a run of finetune/run.py, or a model), or an id on the Hugging Face hub.
            device: to compute on; by default CUDA if there is one.

        Raises:
            InputError: the folder holds no such model.
        """
        folder = Path(name) if Path(name).is_dir() else _download(str(name))
        if not (folder / CONFIG).is_file() or (folder / TASK).is_file():
            folder = fine_tuned_folder(folder)
            task = Retrieval(load_task(folder, Retrieval.name).settings)
            model = load(folder, task)
        else:
            config = ModelConfig.load(folder / CONFIG)
            task = Retrieval(RetrievalSettings())
            model = FineTuned(config, task.make_head(config))
            if start_from(folder, model):
                raise InputError(f"{folder}: has no head for retrieval; fine-tune it (finetune/run.py retrieval)")
        texts = TextEncoder(load_tokenizer(folder / VOCABULARY))
        default = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model, texts, task.settings.max_text, torch.device(device or default))

    def score(self, texts: Sequence[str], regions: Sequence[RegionsRow], *, batch_size: int = 64) -> Array:
        """Scores every text with every image.

        Args:
            texts: [C], of any length.
            regions: [I], of the detector that the model was pretrained with.
            batch_size: pairs that are scored at once.

        Returns:
            float32 [C, I], log-odds that text and image belong together: the higher the better.

        Raises:
            InputError: regions are damaged or of another detector.
        """
        for row in regions:
            self._check(row)
        if not texts or not regions:
            return np.empty((len(texts), len(regions)), np.float32)
        sources = Sources(self._texts, _Regions(regions, self._feature_size), device_type=self._device.type)
        scorer = PairScorer(self.model, sources, device=self._device, batch_size=batch_size)
        encoded_texts = scorer.encode_texts([self._texts.text(text, self.max_text) for text in texts])
        encoded_images = scorer.encode_images(Image.of(row) for row in regions)
        pairs = np.argwhere(np.ones((len(texts), len(regions)), bool))
        return scorer.score(encoded_texts, encoded_images, pairs).reshape(len(texts), len(regions))

    def _check(self, row: RegionsRow) -> None:
        try:
            row.regions.check(row.width, row.height)
        except ValueError as error:
            raise InputError(f"regions of {row.image_id}: {error}") from error
        if (size := row.regions.features.shape[1]) != self._feature_size:
            raise InputError(
                f"regions of {row.image_id}: features of size {size}, the model takes {self._feature_size}; take "
                "regions of the detector that it was pretrained with"
            )


def _download(name: str) -> Path:
    try:
        return Path(snapshot_download(name))
    except (OSError, HFValidationError) as error:
        raise InputError(f"{name}: neither a folder nor a model that can be had from the hub: {error}") from error


class _Regions(dict[str, RegionsRow]):
    """Regions by image id."""

    def __init__(self, rows: Sequence[RegionsRow], feature_size: int) -> None:
        super().__init__({row.image_id: row for row in rows})
        self.feature_size = feature_size
