"""The inputs of a stage as they were when it began: a part must not be made of another state than the one before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from parsers.command import InputError
from pipeline.files import fingerprint, is_local, list_folder
from shards.storage.files import AnyPath


@dataclass(frozen=True)
class Inputs:
    """Files and folders with their fingerprints."""

    found: dict[AnyPath, dict[str, object]]

    @classmethod
    def observe(cls, paths: Iterable[AnyPath]) -> Inputs:
        """Takes the fingerprints of the inputs."""
        return cls({path: fingerprint(path) for path in paths})

    def check_files(self) -> None:
        """Checks the files on a disk, which takes microseconds for each. Folders and stores take longer.

        Raises:
            InputError: one of them changed.
        """
        for path, before in self.found.items():
            if is_local(path) and "files" not in before:
                _check(path, before)

    def check(self) -> None:
        """Checks all inputs.

        Raises:
            InputError: one of them changed.
        """
        for path, before in self.found.items():
            _check(path, before)


def _check(path: AnyPath, before: dict[str, object]) -> None:
    if fingerprint(path) != before:
        newest = max(list_folder(path), key=lambda file: file.version, default=None) if path.is_dir() else None
        where = f"{path}: changed" if newest is None else f"{path}: changed (its newest file is {newest.name})"
        raise InputError(
            f"{where} while the stage read it, so the output is a mixture; wait until nothing writes there, and run "
            "the same command again with --overwrite"
        )
