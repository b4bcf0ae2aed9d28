"""From photos and captions to a matcher: the stages in their order. Each goes on where an earlier run was stopped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parsers
from finetune.data import TaskFiles
from matcher.detection import convert_regions, extract_regions, name_detector
from matcher.pairs import (
    HELD_OUT,
    PAIRS,
    TRAIN,
    OwnData,
    read_own_data,
    write_pairs,
    write_photo_list,
)
from matcher.report import PAGE, report_matcher
from matcher.run_record import LEFT_OUT, MODEL, REPORT, WORK, claim_folder, write_run
from matcher.training import Counts, load_recipe, pretrain_small, train
from matcher.vocabulary import learn_vocabulary
from parsers.checksums import sha256_of
from parsers.command import InputError, pluralize, say
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.extract.images import PictureInput
from pipeline.files import expand, fingerprint, is_inside, location
from pipeline.holdout import choose_holdout, is_held_out
from pipeline.pack.stage import PackStage
from pipeline.parse.stage import ParseStage
from pretrain.model.encoder import CONFIG, WEIGHTS
from pretrain.model.folder import model_folder, read_detector
from pretrain.training.distributed import with_process_group
from shards.regions.detector import DetectorRecord
from shards.regions.store import RegionStore
from shards.storage.files import write_atomic
from shards.storage.lock import lock_folder
from shards.vocabulary import VOCABULARY, read_vocabulary

_MANY = 5_000
"""For fewer captions or images, starting other processes takes longer than it saves."""
_LISTED = 5


@dataclass(frozen=True)
class Plan:
    """What a matcher is made of."""

    photos: Path
    captions: str
    """a file, or a pattern of several"""
    out: Path
    start: Path | None = None
    """a model or a run to start from; None: a small model starts from nothing"""
    tokenizer: Path | None = None
    """the vocabulary of a model that starts from nothing; None: it is learned from the captions"""
    regions: Path | None = None
    """regions of the photos; None: a detector finds them"""
    detector: str | None = None
    """None: it is chosen"""
    detector_options: Mapping[str, object] | None = None
    columns: Mapping[str, str] | None = None
    """what the columns of a table of captions are called"""
    recipe: Path | None = None
    """None: the one that fits the size of the model"""
    settings: tuple[str, ...] = ()
    """changes of the recipe, KEY=VALUE"""

    def made_of(self) -> dict[str, Any]:
        """Returns all that decides the matcher, as YAML values.

        Raises:
            InputError: an input cannot be read.
        """
        return {
            "photos": fingerprint(location(self.photos)),
            "captions": [fingerprint(path) for path in expand([self.captions])],
            "start": None if self.start is None else sha256_of(model_folder(self.start) / WEIGHTS),
            "tokenizer": None if self.tokenizer is None else sha256_of(self.tokenizer),
            "regions": None if self.regions is None else fingerprint(location(self.regions)),
            "detector": self.detector,
            "detector_options": dict(self.detector_options or {}),
            "columns": dict(self.columns or {}),
            "recipe": None if self.recipe is None else sha256_of(self.recipe),
            "settings": list(self.settings),
        }


def train_matcher(plan: Plan, *, overwrite: bool = False) -> None:
    """Makes a matcher, or goes on with it. ``plan.out`` holds model/, report/ and run.yaml when it is finished.

    Raises:
        InputError: an input is missing or damaged, inputs do not fit together, or ``plan.out`` holds something else.
    """
    for source in (plan.photos, *([] if plan.regions is None else [plan.regions])):
        if is_inside(plan.out, source):
            raise InputError(f"{plan.out} lies in {source}, and inputs must not change; name another --out folder")
    made_of = plan.made_of()
    with lock_folder(plan.out):
        finished = claim_folder(plan.out, made_of, overwrite=overwrite) is not None
        if finished and (plan.out / MODEL).is_dir() and (plan.out / REPORT / PAGE).is_file():
            say(f"{plan.out}: this matcher is finished already")
        else:
            write_run(plan.out, made_of, _Chain(plan).run())
    say(f"model:  {plan.out / MODEL}")
    say(f"report: {plan.out / REPORT / PAGE} (open it in a browser)")


class _Chain:
    """The stages of one matcher. Their results lie in ``work/``."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._work = plan, plan.out / WORK

    def run(self) -> dict[str, Any]:
        """Runs all stages and returns the results."""
        plan, work = self._plan, self._work
        data = read_own_data(plan.photos, plan.captions, plan.columns or {})
        say(f"{pluralize(len(data.photos), 'photo')} with {pluralize(data.caption_count, 'caption')}")
        regions = self._find_regions(data)
        data = data.keep(RegionStore([regions]), "no regions were found in it, or given for it")
        self._list_left_out(data)
        holdout = choose_holdout(data.photos)
        held_out = {image_id for image_id in data.photos if is_held_out(image_id, holdout)}
        write_pairs(data, held_out, work / "pairs" / PAIRS)
        counts = _count(data, held_out)
        self._parse(data.caption_count)
        self._pack(self._find_vocabulary(data, held_out), regions, holdout)
        files = TaskFiles(work / "pairs", [regions])
        if not (plan.out / MODEL).is_dir():
            with_process_group(lambda: self._train(files, counts))
            (work / "training" / MODEL).replace(plan.out / MODEL)
        results = report_matcher(plan.out, files, work / "shards" / HELD_OUT, plan.photos, data.left_out)
        for run in ("start", "training"):
            shutil.rmtree(work / run / "checkpoints", ignore_errors=True)  # they are larger than all else
        return results

    def _trained_on(self) -> DetectorRecord | None:
        """Returns what is known of the detector of the start model."""
        if self._plan.start is None:
            return None
        return read_detector(model_folder(self._plan.start))

    def _find_regions(self, data: OwnData) -> Path:
        plan, out = self._plan, self._work / "regions"
        if plan.regions is not None:
            return convert_regions(plan.regions, out)
        trained_on = self._trained_on()
        detector = name_detector(plan.detector, plan.detector_options or {}, trained_on)
        say(f"detector: {detector.name}, because {detector.reason}")
        photos = self._work / "photos.json"
        write_photo_list(data, photos)
        pictures = PictureInput(location(photos), "list", "auto", location(plan.photos))
        extract_regions(pictures, detector, out, feature_size=trained_on.feature_size if trained_on else None)
        return out

    def _list_left_out(self, data: OwnData) -> None:
        path = self._plan.out / REPORT / LEFT_OUT
        write_atomic(path, "".join(f"{line}\n" for line in data.left_out).encode(errors="backslashreplace"))
        for line in data.left_out[:_LISTED]:
            say(f"left out: {line}")
        if (more := len(data.left_out) - _LISTED) > 0:
            say(f"left out: {more:,} more; all of them are in {path}")

    def _find_vocabulary(self, data: OwnData, held_out: set[str]) -> Path:
        """Returns the vocabulary: that of the start model, the given one, or one that is learned from the captions."""
        if self._plan.start is not None:
            return model_folder(self._plan.start) / VOCABULARY
        if self._plan.tokenizer is not None:
            return self._plan.tokenizer
        path = self._work / VOCABULARY
        if not path.is_file():
            learn_vocabulary(
                (text for name, texts in data.captions.items() if name not in held_out for text in texts), path
            )
            say(f"vocabulary: {pluralize(len(read_vocabulary(path)), 'word piece')}, learned from the captions")
        return path

    def _train(self, files: TaskFiles, counts: Counts) -> None:
        start = self._find_start(counts)
        recipe = load_recipe(start, self._plan.recipe, self._plan.settings)
        train(start, files, recipe, counts, self._work / "training")

    def _find_start(self, counts: Counts) -> Path:
        """Returns the model to start from. If none was given, it is pretrained on the packed captions."""
        if self._plan.start is not None:
            return model_folder(self._plan.start)
        run = self._work / "start"
        if not (run / MODEL / CONFIG).is_file():
            pretrain_small(self._work / "shards" / TRAIN, counts, run)
        return model_folder(run)

    def _parse(self, count: int) -> None:
        stage = ParseStage(
            sources=((location(self._work / "pairs" / PAIRS), "karpathy"),),
            parser=parsers.DEFAULT,
            parser_version=parsers.get(parsers.DEFAULT).version,
            partition_size=1_000,
        )
        run_stage(stage, location(self._work / "graphs"), _engine(count), max_rejects=1, overwrite=False)

    def _pack(self, vocabulary: Path, regions: Path, holdout: float) -> None:
        graphs, out = (location(self._work / name) for name in ("graphs", "shards"))
        stage = PackStage((graphs,), (location(regions),), vocabulary, out, holdout, 1_000, None)
        run_stage(stage, out, _engine(0), max_rejects=1, overwrite=False)


def _engine(count: int) -> Engine:
    return Engine(workers=1 if count < _MANY else os.cpu_count() or 1)


def _count(data: OwnData, held_out: set[str]) -> Counts:
    captions = sum(len(texts) for image_id, texts in data.captions.items() if image_id in held_out)
    return Counts((len(data.photos) - len(held_out), len(held_out)), (data.caption_count - captions, captions))
