import pytest

from tests.pipeline.extract.pictures import SIZES, extract, noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of several shapes."""
    path = tmp_path_factory.mktemp("pictures")
    for number, size in enumerate(SIZES):
        noise(number, size).save(path / f"{number:012}.png")
    return path


@pytest.fixture(scope="module")
def regions(folder, weights, tmp_path_factory):
    """What one worker writes."""
    out = tmp_path_factory.mktemp("regions") / "out"
    extract(folder, "--out", out, "--workers", 1, "--partition-size", 4, weights=weights)
    return out
