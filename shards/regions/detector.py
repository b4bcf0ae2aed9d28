"""``detector.json``: the detector of the regions that a model was trained on. It lies in the folder of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from parsers.checksums import check_file, write_checksums
from parsers.command import InputError
from shards.stage_folder import STAGE
from shards.storage.files import AnyPath, read_json, read_record, write_json

DETECTOR = "detector.json"
_NOT_KEPT = ("version", "device")
"""what the stage records besides the name and the options that decide what is found"""


class DetectorRecord(BaseModel):
    """A detector with all that decides what it finds, or only the feature size where regions came from elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    """None: the regions were not found by `pipeline.extract`, so nobody knows the detector"""
    options: dict[str, Any] = {}
    """the weights, the preset and the other options that were given"""
    feature_size: int
    """numbers that describe a region"""

    @classmethod
    def of_regions(cls, folder: AnyPath) -> Self:
        """Reads it from a folder that `pipeline.extract` or `pipeline.regions` wrote.

        Raises:
            InputError: the folder's ``stage.json`` is damaged.
        """
        stage = read_record(folder / STAGE)
        try:
            size = int(stage["info"]["feature_size"])
            found = {key: value for key, value in stage.get("detector", {}).items() if key not in _NOT_KEPT}
            return cls(name=found.pop("name", None), options=found, feature_size=size)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{folder / STAGE}: does not say how the regions were made ({error!r})") from error

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
