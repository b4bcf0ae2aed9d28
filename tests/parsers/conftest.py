import functools

import pytest

import parsers
from parsers import Parser


@functools.cache
def built(name: str) -> Parser:
    """A parser takes seconds to build: each is built once."""
    return parsers.get(name)


@pytest.fixture(params=["sng", "dependency", "neural"])
def parser(request) -> Parser:
    return built(request.param)


@pytest.fixture
def dependency() -> Parser:
    return built("dependency")


@pytest.fixture
def sng() -> Parser:
    return built("sng")
