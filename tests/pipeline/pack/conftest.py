import pytest

from tests.pipeline.pack.tables import write_vocabulary


@pytest.fixture
def vocabulary(tmp_path):
    return write_vocabulary(tmp_path)
