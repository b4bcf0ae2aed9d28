import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# A deadline measures how busy the machine is.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

# A shell that starts the tests in the background ignores SIGINT, and every process that they start would do so as well.
# What is handled here starts with the default there.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A command that is called here may fix its number of threads; the next test starts with all of them."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and reference values beside the repository."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: it holds the reference values and is no part of the repository")
    return folder
