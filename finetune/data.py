"""The files of a task: official files and regions, opened for a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from finetune.inputs import JoinedRegions, RegionsByCocoName, RegionSource, Sources, TextEncoder
from finetune.task import AnyTask, E, Example, P, S, Split, Task
from parsers.command import InputError, pluralize, say
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG
from shards.regions.detector import DetectorRecord
from shards.regions.store import RegionStore
from shards.stage_folder import hash_stage
from shards.vocabulary import VOCABULARY, make_tokenizer, read_vocabulary


@dataclass(frozen=True)
class TaskFiles:
    """The paths of a task's files."""

    folder: Path
    """the official files, or released TSV files"""
    regions: Sequence[Path] = ()
    """folders that `pipeline.regions` or `pipeline.extract` wrote"""
    gold_regions: Sequence[Path] = ()
    """folders of the same kind, with the regions of ground-truth boxes"""
    allow_missing_images: bool = False
    """show a blank image where there are no regions, instead of refusing"""
    coco_ids: bool = False
    """look for the regions of image 42 under COCO's names of pictures as well"""

    def open(
        self, task: Task[S, E, P], splits: Sequence[str], model_folder: Path, device_type: str = "cpu"
    ) -> Split[E]:
        """Reads the examples of some splits, one split after the other, and opens their regions.

        Args:
            task: reads the files.
            splits: the splits.
            model_folder: the model whose configuration and vocabulary the inputs must fit.
            device_type: where the model runs, see `Sources.device_type`.

        Raises:
            InputError: a file is missing or damaged, or does not fit the model.
        """
        config = ModelConfig.load(model_folder / CONFIG)
        pieces = read_vocabulary(model_folder / VOCABULARY)
        config.check_vocabulary(model_folder / VOCABULARY, len(pieces))
        texts = TextEncoder(make_tokenizer(pieces))
        examples = list(chain.from_iterable(task.read(self.folder, split) for split in splits))
        named = ", ".join(splits)
        if not examples:
            raise InputError(f"{self.folder}: {named} holds no examples")
        stores = [
            RegionsByCocoName(store) if store and self.coco_ids else store for store in (self._regions, self._gold)
        ]
        regions, gold = (None if store is None else task.rename_regions(store, examples) for store in stores)
        images = JoinedRegions([task.open_regions(self.folder, split, regions) for split in splits])
        if images.feature_size != config.v_feature_size:
            raise InputError(
                f"the regions of {named} have features of size {images.feature_size}, but {model_folder} takes "
                f"{config.v_feature_size}; use regions of the detector that it was pretrained with"
            )
        _check_text_length(task, config, model_folder)
        if missing := _find_missing(examples, images):
            found = f"no regions for {pluralize(len(missing), 'image')} of {named}, e.g. {min(missing)}"
            if not self.allow_missing_images:
                raise InputError(
                    f"{found}; {_propose_coco_ids(missing, images)}add their --regions, or show blank images with "
                    "--allow-missing-images"
                )
            say(f"{found}; blank images are shown instead")
        if gold is not None and (missing := _find_missing(examples, gold)):
            say(f"no --gold-regions for {pluralize(len(missing), 'image')} of {named}, e.g. {min(missing)}")
        return Split(examples, Sources(texts, images, gold, device_type))

    def compute_checksums(self) -> list[str]:
        """Returns the SHA-256 of each regions folder's stage.json, which says how the folder was made."""
        return [hash_stage(folder) for folder in (*self.regions, *self.gold_regions)]

    def read_detector(self) -> DetectorRecord | None:
        """Returns the detector of the regions, or None if they lie in the lines of released TSV files."""
        return DetectorRecord.of_regions(self.regions[0]) if self.regions else None

    @cached_property
    def _regions(self) -> RegionStore | None:
        return RegionStore(self.regions) if self.regions else None

    @cached_property
    def _gold(self) -> RegionStore | None:
        return RegionStore(self.gold_regions) if self.gold_regions else None


def _check_text_length(task: AnyTask, config: ModelConfig, model_folder: Path) -> None:
    if task.settings.longest_text > config.max_position_embeddings:
        raise InputError(
            f"texts of {task.settings.longest_text} positions are longer than the {config.max_position_embeddings} "
            f"positions of {model_folder}; lower task.max_text"
        )


def _propose_coco_ids(missing: set[str], images: RegionSource) -> str:
    by_name = RegionsByCocoName(images)
    found = sum(image_id in by_name for image_id in missing)
    return f"--coco-ids finds {found:,} of them under COCO's names of pictures; otherwise " if found else ""


def _find_missing(examples: Sequence[Example], images: RegionSource) -> set[str]:
    return {example.image_id for example in examples if example.image_id not in images}
