"""Retrieval as a library: `ErnieVilForRetrieval` scores your own texts with your own images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from finetune.heads import FineTunedModel
from finetune.inputs import ImageRows, Sources, TextEncoder
from finetune.model_folder import TASK, find_fine_tuned, load_fine_tuned, load_task, start_task_from
from finetune.tasks.retrieval.score_matrix import PairScorer
from finetune.tasks.retrieval.task import Retrieval, RetrievalSettings
from parsers.command import InputError
from parsers.device import choose_device
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG
from shards.regions.table import RegionsRow
from shards.schema import Array
from shards.vocabulary import VOCABULARY, make_tokenizer, read_vocabulary


class ErnieVilForRetrieval:
    """Scores how well texts fit images. docs/retrieval.md has an example.

    Attributes:
        model: the encoder with its head, in evaluation mode.
        texts: cuts texts into the word pieces of the model.
        max_text: most positions of a text; the end of a longer one is cut off.
    """

    def __init__(self, model: FineTunedModel, texts: TextEncoder, max_text: int, device: torch.device) -> None:
        self.model = model.to(device).eval()
        self.max_text = max_text
        self.texts, self._device = texts, device
        self._feature_size = model.ernie_vil.config.v_feature_size

    @classmethod
    def from_pretrained(cls, name: str | Path, *, device: str | torch.device | None = None) -> Self:
        """Loads a model that was fine-tuned on retrieval, or an imported checkpoint with its retrieval head.

        Args:
            name: a folder (a run of finetune/run.py, or a model), or an id on the Hugging Face hub.
            device: where to compute; by default the GPU if there is one.

        Raises:
            InputError: the folder does not hold such a model.
        """
        folder = Path(name) if Path(name).is_dir() else _download(str(name))
        chosen = choose_device() if device is None else torch.device(device)
        if not (folder / CONFIG).is_file() or (folder / TASK).is_file():
            folder = find_fine_tuned(folder)
            task = load_task(folder, Retrieval)
            model = load_fine_tuned(folder, task, chosen)
        else:
            config = ModelConfig.load(folder / CONFIG)
            task = Retrieval(RetrievalSettings())
            model = FineTunedModel(config, task.make_head(config))
            if start_task_from(folder, model):
                raise InputError(
                    f"{folder}: the model has no head for retrieval; fine-tune it (finetune/run.py retrieval)"
                )
        pieces = read_vocabulary(folder / VOCABULARY)
        model.ernie_vil.config.check_vocabulary(folder / VOCABULARY, len(pieces))
        return cls(model, TextEncoder(make_tokenizer(pieces)), task.settings.max_text, chosen)

    def score(self, texts: Sequence[str], regions: Sequence[RegionsRow], *, batch_size: int = 64) -> Array:
        """Scores every text with every image.

        Args:
            texts: C texts of any length.
            regions: the regions of I images, found by the detector that the model was pretrained with.
            batch_size: pairs that are scored at once.

        Returns:
            float32 [C, I], the log-odds that text and image belong together. Higher is better.

        Raises:
            InputError: regions are damaged, or are from another detector, or ``texts`` is one text and no sequence.
        """
        if isinstance(texts, str):
            raise InputError(f"{texts!r:.100} is one text; give a list of texts: score([text], regions)")
        pairs = np.argwhere(np.ones((len(texts), len(regions)), bool))
        return self.score_pairs(texts, regions, pairs, batch_size=batch_size).reshape(len(texts), len(regions))

    def score_pairs(
        self, texts: Sequence[str], regions: Sequence[RegionsRow], pairs_P2: Array, *, batch_size: int = 64
    ) -> Array:
        """Scores some texts with some images.

        Args:
            texts: texts of any length.
            regions: the regions of images, see `score`.
            pairs_P2: int64 [P, 2], the numbers of a text and an image.
            batch_size: pairs that are scored at once.

        Returns:
            float32 [P], the log-odds that text and image belong together.

        Raises:
            InputError: regions are damaged, or are from another detector.
        """
        for row in regions:
            self._check(row)
        if not len(pairs_P2):
            return np.empty(0, np.float32)
        sources = Sources(self.texts, _Regions(regions, self._feature_size), device_type=self._device.type)
        scorer = PairScorer(self.model, sources, device=self._device, batch_size=batch_size)
        encoded_texts = scorer.encode_texts([self.texts.encode(text, self.max_text) for text in texts])
        encoded_images = scorer.encode_images(ImageRows.from_regions(row) for row in regions)
        return scorer.score(encoded_texts, encoded_images, pairs_P2)

    def _check(self, row: RegionsRow) -> None:
        try:
            row.regions.check(row.width, row.height)
        except ValueError as error:
            raise InputError(f"regions of {row.image_id}: {error}") from error
        boxes = row.regions.boxes
        if len(boxes) and boxes.max() <= 1 < min(row.width, row.height):
            raise InputError(
                f"regions of {row.image_id}: all boxes lie within 0..1 of {row.width} x {row.height} pixels; boxes are "
                "in pixels: multiply them by the width and height of the image"
            )
        if (size := row.regions.features.shape[1]) != self._feature_size:
            raise InputError(
                f"regions of {row.image_id}: features of size {size}, but the model takes {self._feature_size}; "
                "use regions of the detector that it was pretrained with"
            )


def _download(name: str) -> Path:
    try:
        return Path(snapshot_download(name))
    except (OSError, HFValidationError) as error:
        raise InputError(f"{name}: neither a folder nor a model on the Hugging Face hub: {error}") from error


class _Regions(dict[str, RegionsRow]):
    """A `RegionSource` of rows in memory."""

    def __init__(self, rows: Sequence[RegionsRow], feature_size: int) -> None:
        super().__init__({row.image_id: row for row in rows})
        self.feature_size = feature_size
