import pytest

from tests.shards.samples import SAMPLES, write_shards


@pytest.fixture
def folder(tmp_path):
    """A set of three shards."""
    return write_shards(tmp_path / "old", [SAMPLES[:3], SAMPLES[3:5], SAMPLES[5:]])
