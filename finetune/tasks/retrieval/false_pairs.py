"""The false pairs that a caption and its image are trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from finetune.tasks.checks import expect_layout
from finetune.tasks.retrieval.captions import RetrievalCaption, number_images
from parsers.command import InputError
from shards.negatives.table import read_false_captions
from shards.storage import pickles
from shards.storage.files import read_json

FalsePairKind = Literal["easy_images", "hard_images", "easy_captions", "hard_captions", "false_captions"]
KINDS: tuple[FalsePairKind, ...] = get_args(FalsePairKind)
"""A false pair has another image or another caption. It is an easy one (any other) or a hard one (a similar one). A
false caption is the true one with a word changed."""


class FalsePairs:
    """Draws false pairs from the training captions."""

    def __init__(
        self,
        captions: Sequence[RetrievalCaption],
        hard_negatives: Mapping[str, Sequence[str]],
        false_captions: Mapping[tuple[str, str], Sequence[str]],
    ) -> None:
        """Groups the captions by image.

        Args:
            captions: the training captions.
            hard_negatives: by image id, the ids of images like it.
            false_captions: by image id and caption id, false texts.

        Raises:
            InputError: all captions are of one image.
        """
        self._images, _ = number_images(captions)
        if len(self._images) < 2:
            raise InputError("false pairs need at least two images; the training split has one")
        self._captions: dict[str, list[RetrievalCaption]] = {image: [] for image in self._images}
        for caption in captions:
            self._captions[caption.image_id].append(caption)
        self._hard_negatives = hard_negatives
        self._false_captions = false_captions

    def draw(
        self, caption: RetrievalCaption, kinds: Sequence[FalsePairKind], random: np.random.Generator
    ) -> list[tuple[RetrievalCaption, str]]:
        """Returns a caption and an image id for each kind. Without a false caption, there is an easy one in its place.

        Raises:
            InputError: a hard pair is wanted, and the image has no hard negatives.
        """
        pairs = []
        for kind in kinds:
            texts = self._false_captions.get((caption.image_id, caption.caption_id), ())
            if kind == "false_captions" and texts:
                text = texts[int(random.integers(len(texts)))]
                pairs.append((replace(caption, text=text), caption.image_id))
                continue
            other = self._draw_image(caption.image_id, kind.startswith("hard"), random)
            if kind.endswith("images"):
                pairs.append((caption, other))
            else:
                captions = self._captions[other]
                pairs.append((captions[int(random.integers(len(captions)))], caption.image_id))
        return pairs

    def _draw_image(self, image_id: str, hard: bool, random: np.random.Generator) -> str:
        if hard:
            similar = [
                other
                for other in self._hard_negatives.get(image_id, ())
                if other != image_id and other in self._captions
            ]
            if not similar:
                raise InputError(
                    f"image {image_id!r} has no hard negatives in the training split; make the file again with "
                    "finetune.shortlist --hard-negatives"
                )
            return similar[int(random.integers(len(similar)))]
        while True:
            other = self._images[int(random.integers(len(self._images)))]
            if other != image_id:
                return other


def check_hard_negatives(path: Path) -> None:
    """Checks that there is a file of hard negatives.

    Raises:
        InputError: there is none. The message says how to make it, and how to do without.
    """
    if not path.is_file():
        raise InputError(
            f"task.hard_negatives: there is no file {path}; make it with `python -m finetune.shortlist "
            "--hard-negatives` from a model that is fine-tuned without it, or use --set task.hard_images=0 --set "
            "task.hard_captions=0"
        )


def read_hard_negatives(path: Path) -> dict[str, list[str]]:
    """Reads, for each image id, the ids of images like it: JSON of `finetune.shortlist`, or a released pickle.

    Raises:
        InputError: the file cannot be read or has another layout.
    """
    check_hard_negatives(path)
    if path.suffix == ".json":
        with expect_layout(path, "JSON with a list of image ids for each image id"):
            return {str(image): [str(other) for other in others] for image, others in read_json(path).items()}
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    with expect_layout(path, "a pickle with train_image_list and train_hard_pool, nor does its name end in .json"):
        found = pickles.unpickle(content)
        images = [str(image) for image in found["train_image_list"]]
        pools = zip(images, found["train_hard_pool"], strict=True)
        return {image: [images[number] for number in pool] for image, pool in pools}


def read_negatives_of(folder: Path, captions: Sequence[RetrievalCaption]) -> dict[tuple[str, str], list[str]]:
    """Reads the false captions of some captions, by image id and caption id.

    Raises:
        InputError: the folder is none of `pipeline.negatives`, or it has false captions of none of these.
    """
    found = read_false_captions(folder)
    if not any((caption.image_id, caption.caption_id) in found for caption in captions):
        raise InputError(
            f"task.negatives: {folder} has no false caption of a training caption; run pipeline.parse and "
            "pipeline.negatives on the file of these captions"
        )
    return found
