"""The start-up check that our packages are ours: their names are plain words, and others use them, too."""

from __future__ import annotations

import base64
import hashlib
import sys
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "ernie-vil-pytorch"
PACKAGES = ("parsers", "shards", "pipeline", "pretrain", "finetune", "configs")
ROOT = Path(__file__).resolve().parents[1]


def check_packages(root: Path = ROOT) -> None:
    """Ends the program with one line if another software's package stands where ours should be.

    Args:
        root: the folder that our packages lie in.
    """
    for name in PACKAGES:
        place = _find_foreign(name, root)
        if place is not None:
            print(f"error: {_explain(name, place)}", file=sys.stderr)
            sys.exit(1)


def _find_foreign(name: str, root: Path) -> Path | None:
    """Returns where a package lies that is not ours, and nothing if it is ours."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:  # without __init__.py: there is no such package, or one of other software
        return root / name
    file = Path(spec.origin).resolve()
    if file != root / name / "__init__.py":
        return file
    recorded = _recorded_checksums(root).get(f"{name}/__init__.py")
    return file if recorded is not None and recorded != _checksum(file) else None


def _explain(name: str, place: Path) -> str:
    others = [owner for owner in metadata.packages_distributions().get(name, []) if owner != DISTRIBUTION]
    if not others:
        return (
            f"{place} hides the package {name} of {DISTRIBUTION}; rename it, or start from another folder and without "
            "its folder in PYTHONPATH"
        )
    return (
        f"{place} of {others[0]} hides the package {name} of {DISTRIBUTION}; install {DISTRIBUTION} into an "
        f"environment of its own, or run: pip uninstall {others[0]} && "
        f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
    )


@cache
def _recorded_checksums(root: Path) -> dict[str, str]:
    """Returns the checksums that pip noted when it copied our files here; none for an editable installation."""
    try:
        installed = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return {}
    if Path(str(installed.locate_file(""))).resolve() != root:
        return {}
    return {str(file): file.hash.value for file in installed.files or () if file.hash is not None}


def _checksum(path: Path) -> str:
    """Returns the SHA-256 of a file as wheels note it."""
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
