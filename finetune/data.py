"""The files of a task, read for a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from finetune.inputs import Images, JoinedImages, Sources, TextEncoder
from finetune.task import Example, Split, Task
from parsers.command import InputError, pluralize, say
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG
from shards.reader import VOCABULARY
from shards.regions.store import RegionStore
from shards.storage.files import sha256_of
from shards.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Data:
    """Where the files of a task are."""

    folder: Path
    """of the official files, or of released ones"""
    regions: Sequence[Path] = ()
    """folders that `pipeline.regions` or `pipeline.extract` wrote"""
    gold_regions: Sequence[Path] = ()
    """the same of ground-truth boxes"""
    allow_missing_images: bool = False

    def open(
        self, task: Task[Any, Any], splits: Sequence[str], model_folder: Path, device_type: str = "cpu"
    ) -> Split[Any]:
        """The examples of some splits, one after the other, ready to be collated for a model.

        Raises:
            InputError: a file is missing or damaged, or does not fit the model.
        """
        config = ModelConfig.load(model_folder / CONFIG)
        texts = TextEncoder(load_tokenizer(model_folder / VOCABULARY))
        examples = list(chain.from_iterable(task.read(self.folder, split) for split in splits))
        if not examples:
            raise InputError(f"{self.folder}: {', '.join(splits)} holds no examples")
        regions = None if self._regions is None else task.named(self._regions, examples)
        images = JoinedImages([task.images(self.folder, split, regions) for split in splits])
        gold = None if self._gold is None else task.named(self._gold, examples)
        if images.feature_size != config.v_feature_size:
            raise InputError(
                f"the regions of {', '.join(splits)} have features of size {images.feature_size}, {model_folder} takes "
                f"{config.v_feature_size}; take regions of the detector that it was pretrained with"
            )
        if task.settings.longest_text > config.max_position_embeddings:
            raise InputError(
                f"texts of {task.settings.longest_text} positions are more than the {config.max_position_embeddings} "
                f"of {model_folder}; lower task.max_text"
            )
        self._check_images(examples, images, splits)
        if gold is not None and (missing := _images_outside(examples, gold)):
            say(f"no --gold-regions for {pluralize(len(missing), 'image')} of {', '.join(splits)}, e.g. {min(missing)}")
        return Split(examples, Sources(texts, images, gold, device_type))

    def checksums(self) -> list[str]:
        """Of what was done to make each folder of regions."""
        return [sha256_of(folder / "stage.json") for folder in (*self.regions, *self.gold_regions)]

    @cached_property
    def _regions(self) -> RegionStore | None:
        return RegionStore(self.regions) if self.regions else None

    @cached_property
    def _gold(self) -> RegionStore | None:
        return RegionStore(self.gold_regions) if self.gold_regions else None

    def _check_images(self, examples: Sequence[Example], images: Images, splits: Sequence[str]) -> None:
        missing = _images_outside(examples, images)
        if not missing:
            return
        found = f"no regions for {pluralize(len(missing), 'image')} of {', '.join(splits)}, e.g. {min(missing)}"
        if not self.allow_missing_images:
            raise InputError(f"{found}; add their --regions, or show blank images with --allow-missing-images")
        say(f"{found}; shown blank")


def _images_outside(examples: Sequence[Example], images: Images) -> set[str]:
    return {example.image_id for example in examples if example.image_id not in images}
