"""``run.yaml``: what made a matcher, and what came out. A folder without it is not ours to write to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from parsers.command import InputError, shorten_json
from shards.storage.files import write_atomic

RUN, MODEL, REPORT, WORK, SEARCH = "run.yaml", "model", "report", "work", "search"
MADE_OF, RESULTS = "made_of", "results"
FIGURES, LEFT_OUT = "figures.json", "left-out.txt"
"""files of the report, besides its page"""


def claim_folder(out: Path, made_of: Mapping[str, Any], *, overwrite: bool) -> Mapping[str, Any] | None:
    """Takes a folder for a matcher: a new one, or that of the same matcher, which may be unfinished.

    Args:
        out: the folder.
        made_of: what decides the matcher, as YAML values.
        overwrite: remove another matcher that lies there.

    Returns:
        The results of the finished matcher, or None.

    Raises:
        InputError: the folder holds another matcher, or something else.
    """
    path = out / RUN
    if not path.is_file():
        if any(not child.name.startswith(".") for child in out.iterdir()):
            raise InputError(f"{out} is not empty and holds no matcher; name another --out folder")
    else:
        found = read_run(out)
        before = found[MADE_OF]
        changed = sorted(key for key in made_of.keys() | before.keys() if made_of.get(key) != before.get(key))
        if not changed:
            return found.get(RESULTS)
        # A run that failed before its first part, for want of weights for example, left nothing to protect.
        if not overwrite and any((out / WORK).glob("*/part-*.stats.json")):
            changes = "; ".join(
                f"{key}: {shorten_json(before.get(key))} -> {shorten_json(made_of.get(key))}" for key in changed
            )
            raise InputError(
                f"{out} holds a matcher that was made of something else ({changes}). Name another --out folder, or add "
                "--overwrite to make it anew"
            )
        for name in (MODEL, REPORT, WORK, SEARCH):
            shutil.rmtree(out / name, ignore_errors=True)
    write_run(out, made_of)
    return None


def write_run(out: Path, made_of: Mapping[str, Any], results: Mapping[str, Any] | None = None) -> None:
    """Writes what decides a matcher and, when it is finished, its results."""
    record = {"version": version("ernie-vil-pytorch"), MADE_OF: dict(made_of)}
    record |= {} if results is None else {RESULTS: dict(results)}
    write_atomic(out / RUN, yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=120).encode())


def read_run(out: Path) -> Mapping[str, Any]:
    """Reads what `write_run` wrote.

    Raises:
        InputError: the file is damaged.
    """
    path = out / RUN
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert isinstance(record[MADE_OF], dict)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, AssertionError) as error:
        raise InputError(f"{path}: is not the record of a matcher: {error!r}") from error
    found: Mapping[str, Any] = record
    return found
