import pytest

from tests.shards.samples import SAMPLES, write_shards


@pytest.fixture
def folder(tmp_path):
    """A set of two shards."""
    return write_shards(tmp_path / "shards", [SAMPLES[:4], SAMPLES[4:]])
