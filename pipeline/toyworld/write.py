"""Writes a world: captions as COCO, region features as ViLBERT, pictures, the vocabulary and the truth."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from parsers.checksums import CHECKSUMS, check_file, list_checked, write_checksums
from parsers.command import InputError
from pipeline.toyworld.captions import ToyCaption, describe
from pipeline.toyworld.layout import sample_scene
from pipeline.toyworld.render import render
from pipeline.toyworld.scene import HEIGHT, SHAPES, WIDTH, Scene
from pipeline.toyworld.simulated_features import SimulatedDetector, SimulatedRegions
from pipeline.toyworld.suite.twins import Twins, sample_twins
from pipeline.toyworld.task_files import picture_name, write_suite, write_tasks
from shards.storage.files import read_text_lines
from shards.storage.lock import LOCK
from shards.storage.scratch import scratch_folder
from shards.storage.workers import follow_parent

TAGGED_REGIONS = "tasks/vcr/regions"
_TWINS = 4
"""the stream of random numbers of twins; those before it are of single pictures"""
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY_SIZE = 320


@dataclass(frozen=True, slots=True)
class ToyWorld:
    """How a world is made.

    Equal settings give the same bytes on the same kind of processor. A picture does not depend on how many follow it.
    """

    images: int = 3000
    seed: int = 0
    captions: int = 5
    feature_size: int = 64
    things: tuple[int, int] = (3, 6)
    tasks: bool = False
    """whether the data sets of the downstream tasks are made as well; the rest stays the same"""
    apart: bool = False
    """whether all things stand apart, so that words do not tell how they stand (see `pipeline.toyworld.layout`)"""
    suite: bool = False
    """whether the pictures are twins (see `pipeline.toyworld.suite`), and a suite of their captions is made"""


@dataclass(frozen=True, slots=True)
class ToyWorldTotals:
    """How many of each thing were written."""

    images: int
    captions: int
    things: int
    regions: int
    pieces: int


def write_world(
    world: ToyWorld, out: Path, *, workers: int = 1, progress: Callable[[int], None] = lambda _: None
) -> ToyWorldTotals:
    """Makes the world and puts it at ``out``, where it replaces an older world. It appears complete or not at all.

    Args:
        world: the settings.
        out: the folder for the world.
        workers: the number of processes that share the pictures; the bytes do not depend on it.
        progress: this is called with the number of pictures just done.

    Raises:
        FileExistsError: ``out`` holds something that is not part of a world, or a link.
        InputError: a worker died.
    """
    if strangers := sorted(_list_files(out) - list_checked(out) - {CHECKSUMS, LOCK}):
        raise FileExistsError(
            f"{out} holds {strangers[0]}, which the {CHECKSUMS} of a toy world does not list; choose another folder"
        )
    with scratch_folder(out) as unfinished:
        try:
            totals = _write(world, unfinished, workers, progress)
        except BrokenProcessPool as error:
            raise InputError(
                f"{out}: a worker process died (killed, or out of memory); run the same command again, with fewer "
                "--workers if memory was short"
            ) from error
        if out.exists():
            shutil.rmtree(out)
        unfinished.rename(out)
    return totals


def _list_files(folder: Path) -> set[str]:
    """Everything in a folder but folders, by its path in the folder."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in paths}


def _write(world: ToyWorld, unfinished: Path, workers: int, progress: Callable[[int], None]) -> ToyWorldTotals:
    for folder in ("regions", "images", *([TAGGED_REGIONS] if world.tasks else [])):
        (unfinished / folder).mkdir(parents=True)
    scenes: list[Scene] = []
    captions: list[list[ToyCaption]] = []
    twins: list[Twins] = []
    regions = 0
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=follow_parent) as pool:
        if world.suite:
            twins += pool.map(partial(_sample_twins, world), range(1, world.images // 2 + 1), chunksize=25)
        given = chain.from_iterable(pair.scenes for pair in twins) if world.suite else repeat(None)
        write_image = partial(_write_image, world, SimulatedDetector(world.feature_size), unfinished)
        for scene, said, found in pool.map(write_image, range(1, world.images + 1), given, chunksize=50):
            scenes.append(scene)
            captions.append(said)
            regions += found
            progress(1)
    pieces = train_vocabulary(caption.text for said in captions for caption in said)
    _write_text(unfinished / "vocab.txt", "\n".join(pieces))
    _write_text(unfinished / "class_names.txt", "\n".join(SHAPES))
    _write_text(unfinished / "scenes.jsonl", "\n".join(json.dumps(scene.to_dict()) for scene in scenes))
    _write_text(unfinished / "captions.json", json.dumps(_coco(world, scenes, captions)))
    if world.tasks:
        write_tasks(world.seed, scenes, captions, unfinished / "tasks")
    if world.suite:
        write_suite(twins, unfinished / "suite")
    write_checksums(unfinished, sorted(_list_files(unfinished)))
    return ToyWorldTotals(
        world.images, sum(map(len, captions)), sum(len(scene.things) for scene in scenes), regions, len(pieces)
    )


def _sample_twins(world: ToyWorld, number: int) -> Twins:
    return sample_twins(number, np.random.default_rng((world.seed, number, _TWINS)), world.things, apart=world.apart)


def _write_image(
    world: ToyWorld, detector: SimulatedDetector, folder: Path, image_id: int, given: Scene | None
) -> tuple[Scene, list[ToyCaption], int]:
    """Writes one picture and its regions. Returns its truth, its captions and the number of regions.

    If no scene is given, one is drawn.
    """
    layout, words, sight, tags = (np.random.default_rng((world.seed, image_id, stream)) for stream in range(4))
    scene = given or sample_scene(image_id, layout, world.things, apart=world.apart)
    regions = detector.detect(scene, sight)
    _write_regions(folder / "regions" / f"{image_id}.npz", image_id, regions)
    if world.tasks:
        _write_regions(folder / TAGGED_REGIONS / f"{image_id}.npz", image_id, detector.describe(scene, tags))
    render(scene).save(folder / "images" / picture_name(image_id), compress_level=1)
    return scene, describe(scene, world.captions, words), len(regions.boxes)


def read_scenes(path: Path) -> Iterator[Scene]:
    """Reads ``scenes.jsonl``.

    Raises:
        InputError: the file cannot be read or is damaged, or a line holds no scene.
    """
    check_file(path)
    for number, line in enumerate(read_text_lines(path), 1):
        try:
            scene = Scene.from_dict(json.loads(line))
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: line {number}: is no scene ({error}); make the world again") from error
        yield scene


def train_vocabulary(texts: Iterator[str]) -> list[str]:
    """Trains WordPiece on the captions. It has every lower-case letter and digit, so that other words can be spelled.

    The trainer breaks ties by the numbers of the pieces, and it numbers the letters in the order of a hash table with a
    random seed. The letters are given to it beforehand, so that the same texts give the same vocabulary.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[*SPECIAL_TOKENS, *".,?'", *letters, *(f"##{letter}" for letter in letters)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _write_text(path: Path, text: str) -> None:
    path.write_text(f"{text}\n", encoding="utf-8")


def _write_regions(path: Path, image_id: int, regions: SimulatedRegions) -> None:
    np.savez(
        path,
        features=regions.features,
        bbox=regions.boxes,
        num_boxes=np.int64(len(regions.boxes)),
        objects=regions.classes,
        cls_prob=regions.class_probs,
        image_width=np.int64(WIDTH),
        image_height=np.int64(HEIGHT),
        image_id=np.str_(image_id),
    )


def _coco(world: ToyWorld, scenes: list[Scene], captions: list[list[ToyCaption]]) -> dict[str, object]:
    numbered = ((scene.image_id, caption) for scene, said in zip(scenes, captions, strict=True) for caption in said)
    return {
        "info": {"description": "Generated toy world", "version": "1", "seed": world.seed},
        "licenses": [],
        "images": [
            {"id": scene.image_id, "file_name": picture_name(scene.image_id), "height": HEIGHT, "width": WIDTH}
            for scene in scenes
        ],
        "annotations": [
            {"id": number, "image_id": image_id, "caption": caption.text}
            for number, (image_id, caption) in enumerate(numbered, start=1)
        ],
    }
