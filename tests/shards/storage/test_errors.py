"""Errors of damaged shards."""

from parsers.command import InputError
from shards.storage.errors import ShardError


def test_damaged_shards_are_told_as_input_that_cannot_be_used():
    assert issubclass(ShardError, InputError)
