"""Scores texts with photos: `Matcher` is what five lines of Python use."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch

from finetune.inputs import RegionSource
from finetune.model_folder import find_fine_tuned
from finetune.retriever import ErnieVilForRetrieval
from matcher.detection import build_detector, detect, extract_regions, name_detector, open_regions
from matcher.pairs import list_photos
from matcher.run_record import MADE_OF, RUN, SEARCH, read_run
from parsers.command import InputError
from pipeline.detectors import Detector
from pipeline.detectors.choice import DetectorChoice
from pipeline.extract.images import PictureInput
from pipeline.files import fingerprint, location
from pretrain.model.folder import read_detector
from shards.pictures import image_id_of_file
from shards.regions.store import RegionStore
from shards.regions.table import RegionsRow
from shards.schema import Array

_AT_ONCE = 256
"""photos whose regions are in memory together"""


class Matcher:
    """A trained matcher. The regions of photos are found by its detector, or given.

    Example:
        matcher = Matcher("my-matcher")
        matcher.score("photo.jpg", ["a red ball", "two dogs"])
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        regions: str | Path | None = None,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        """Loads the model.

        Args:
            folder: what `matcher.train` wrote, or a run or a model of retrieval.
            regions: regions of the photos in any published format; then photos may be image ids. Without it they
                are found by the detector that the model was trained with. If nobody knows it, those of the training are
                used.
            weights: the weights of the detector, if they have moved.
            device: where to compute; by default the GPU if there is one.

        Raises:
            InputError: there is no such model, or the regions have features of another size.
        """
        self._folder, self._weights = Path(folder), weights
        self.model = ErnieVilForRetrieval.from_pretrained(self._folder, device=device)
        self._trained_on = read_detector(find_fine_tuned(self._folder))
        self._given = self._open_regions(None if regions is None else Path(regions))

    def score(self, photo: str | Path, texts: Sequence[str]) -> Array:
        """Scores texts with a photo.

        Args:
            photo: a file or, if regions are given, an image id.
            texts: any number of texts.

        Returns:
            float32 [texts], the log-odds that text and photo belong together. Higher is better.

        Raises:
            InputError: the photo cannot be read, or has no regions.
        """
        scores: Array = self.model.score(texts, [self._find(photo)])[:, 0]
        return scores

    def search(self, text: str, photos: str | Path) -> list[tuple[Path, float]]:
        """Ranks the photos of a folder by how well they fit a text, the best one first.

        What the detector finds is kept in ``search/`` of the matcher's folder, so the second search is quick.

        Returns:
            The path and the score of each photo that can be used.

        Raises:
            InputError: there is no such folder, or nothing in it can be used.
        """
        folder = Path(photos)
        names, _ = list_photos(folder)
        store = self._given or self._search_index(folder)
        known = [image_id for image_id in names if image_id in store]
        if not known:
            raise InputError(f"{folder}: there are no regions of its photos")
        found: list[tuple[Path, float]] = []
        for start in range(0, len(known), _AT_ONCE):
            part = known[start : start + _AT_ONCE]
            scores = self.model.score([text], [store[image_id] for image_id in part])[0].tolist()
            found += [(folder / names[image_id], score) for image_id, score in zip(part, scores, strict=True)]
        return sorted(found, key=lambda item: -item[1])

    def _find(self, photo: str | Path) -> RegionsRow:
        if self._given is None:
            return detect(Path(photo), self.detector)
        for image_id in (str(photo), image_id_of_file(str(photo), "auto")):
            if image_id in self._given:
                return self._given[image_id]
        raise InputError(f"{photo}: there are no regions of it; name others with regions=... (--regions)")

    def _search_index(self, folder: Path) -> RegionStore:
        """Returns the regions of all photos of a folder; finds them if the folder is new or has changed."""
        found = fingerprint(location(folder))
        prefix, state = (hashlib.sha256(str(found[key]).encode()).hexdigest()[:16] for key in ("path", "files"))
        out = self._folder / SEARCH / f"{prefix}-{state}"
        for before in set(out.parent.glob(f"{prefix}-*")) - {out}:
            shutil.rmtree(before)
        pictures = PictureInput(location(folder), "folder", "auto")
        extract_regions(pictures, self._named_detector, out, feature_size=self._trained_on.feature_size)
        return RegionStore([out])

    @cached_property
    def _named_detector(self) -> DetectorChoice:
        options: Mapping[str, object] = {} if self._weights is None else {"weights": str(self._weights)}
        return name_detector(None, options, self._trained_on)

    @cached_property
    def detector(self) -> Detector:
        """The detector that the model was trained with.

        Raises:
            InputError: nobody knows it, or its weights cannot be had.
        """
        return build_detector(self._named_detector)

    def _open_regions(self, given: Path | None) -> RegionSource | None:
        """Returns the regions that were given or, if nobody knows the detector, those of the training."""
        if given is not None:
            return open_regions(given)
        if self._trained_on.detector is not None or not (self._folder / RUN).is_file():
            return None
        of_training = read_run(self._folder)[MADE_OF]["regions"]
        return open_regions(Path(of_training["path"]))
