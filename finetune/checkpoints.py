"""Fine-tuned models as folders: those of pretraining, and ``task.json`` with the task and its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from finetune.files import read_json, sha256_of, write_json
from finetune.inputs import Images, JoinedImages, Sources, TextEncoder
from finetune.task import Example, FineTuned, Split, Task
from finetune.tasks import task_type
from pretrain.config import ModelConfig
from pretrain.export import export
from pretrain.model import CONFIG, WEIGHTS
from shards.console import say
from shards.errors import InputError
from shards.reader import VOCABULARY
from shards.regions import RegionStore
from shards.tokenizer import load_tokenizer

TASK = "task.json"
BEST, LAST = "best", "model"
HEAD = "head."


def fine_tuned_folder(path: Path) -> Path:
    """The folder of the fine-tuned model that is meant: itself, or the best or else the last one of the run there.

    Raises:
        InputError: it is neither.
    """
    for folder in (path, path / BEST, path / LAST):
        if (folder / TASK).is_file():
            return folder
    raise InputError(f"{path}: neither a fine-tuned model (with {TASK}) nor a run of finetune/run.py that wrote one")


def save(
    weights: Mapping[str, Tensor], config: ModelConfig, vocabulary: bytes, task: Task[Any, Any], out: Path
) -> None:
    """Writes a fine-tuned model."""
    export(weights, config, vocabulary, out)
    write_json({"task": task.name, "settings": task.settings.model_dump(mode="json")}, out / TASK)


def load_task(folder: Path, name: str) -> Task[Any, Any]:
    """The task of a fine-tuned model.

    Raises:
        InputError: it was fine-tuned on another one.
    """
    record = read_json(folder / TASK)
    try:
        found, settings = record["task"], record["settings"]
        if found != name:
            raise InputError(f"{folder} was fine-tuned on {found}, not on {name}")
        chosen = task_type(name)
        return chosen(chosen.settings_type.model_validate(settings))
    except (KeyError, TypeError, ValidationError) as error:
        raise InputError(f"{folder / TASK}: is no record of a task: {error}") from error


def load(folder: Path, task: Task[Any, Any]) -> FineTuned:
    """A fine-tuned model in evaluation mode.

    Raises:
        InputError: the weights are missing or do not fit.
    """
    config = ModelConfig.load(folder / CONFIG)
    model = FineTuned(config, task.make_head(config))
    try:
        model.load_state_dict(_read_weights(folder))
    except RuntimeError as error:
        raise InputError(f"{folder / WEIGHTS}: does not fit {CONFIG} and {TASK}: {error}") from error
    return model.eval()


def start_from(folder: Path, model: FineTuned) -> list[str]:
    """Copies the encoder of a folder into a model, and what fits of its head if it has one.

    Returns:
        The parameters of the model's head that keep their random values.

    Raises:
        InputError: the encoder does not fit.
    """
    weights, own = _read_weights(folder), model.state_dict()
    unfit = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if wrong := [name for name in unfit if not name.startswith(HEAD)]:
        raise InputError(f"{folder / WEIGHTS}: {min(wrong)} is missing or has another shape than {CONFIG} says")
    model.load_state_dict({name: weights[name] for name in own if name not in unfit}, strict=False)
    return unfit


def _read_weights(folder: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder / WEIGHTS}: cannot be loaded: {error}") from error
    return weights


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
            say(f"{len(missing):,} images of {', '.join(splits)} have no --gold-regions, e.g. {min(missing)}")
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
        found = f"{len(missing):,} images of {', '.join(splits)} have no regions, e.g. {min(missing)}"
        if not self.allow_missing_images:
            raise InputError(f"{found}; add their --regions, or show blank images with --allow-missing-images")
        say(f"{found}: they are blank")


def _images_outside(examples: Sequence[Example], images: Images) -> set[str]:
    return {example.image_id for example in examples if example.image_id not in images}
