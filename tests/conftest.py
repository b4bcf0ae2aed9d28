from pathlib import Path

import pytest
from hypothesis import settings

# A deadline measures how busy the machine is.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and reference values beside the repository."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: it holds the reference values and is no part of the repository")
    return folder
