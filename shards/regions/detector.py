"""``detector.json``: the detector of the regions that a model was trained on. It lies in the folder of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from parsers.checksums import check_file, write_checksums
from parsers.command import InputError
from shards.manifest import DetectorInfo
from shards.regions.table import RegionsInfo
from shards.stage_folder import STAGE, parts_of
from shards.storage.files import AnyPath, read_json, read_record, write_json

DETECTOR = "detector.json"
_NOT_KEPT = ("version", "device")
"""what the stage records besides the name and the options that decide what is found"""


class DetectorRecord(BaseModel):
    """The detector of a model's regions, or only their feature size where they came from elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: DetectorInfo | None = None
    """None: the regions were not found by `pipeline.extract`, so nobody knows the detector"""
    feature_size: int
    """numbers that describe a region"""

    @classmethod
    def of_regions(cls, folder: AnyPath) -> Self:
        """Reads it from a folder that `pipeline.extract` or `pipeline.regions` wrote.

        Raises:
            InputError: the folder is unfinished or damaged.
        """
        size = RegionsInfo.from_file(parts_of(folder)[0]).feature_size
        found = read_record(folder / STAGE).get("detector") if (folder / STAGE).is_file() else None
        if found is None:
            return cls(feature_size=size)
        try:
            options = {key: value for key, value in found.items() if key not in _NOT_KEPT}
            return cls(detector=DetectorInfo(name=options.pop("name"), options=options), feature_size=size)
        except (KeyError, AttributeError, ValueError) as error:
            raise InputError(f"{folder / STAGE}: does not say which detector it was ({error!r})") from error

    @classmethod
    def load(cls, model: Path) -> Self | None:
        """Reads it from the folder of a model, or of the run that wrote one; None if there is none.

        Raises:
            InputError: it is damaged.
        """
        path = next((path for path in (model / DETECTOR, model / "model" / DETECTOR) if path.is_file()), None)
        if path is None:
            return None
        check_file(path)
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise InputError(f"{path}: is no record of a detector: {error.errors()[0]['msg']}") from error

    def save(self, model: Path) -> None:
        """Writes it into the folder of a model."""
        write_json(self.model_dump(), model / DETECTOR)
        write_checksums(model, (DETECTOR,))
