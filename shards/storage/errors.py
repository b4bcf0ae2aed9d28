"""The error for damaged shards."""

from parsers.command import InputError


class ShardError(InputError):
    """The bytes of a shard are not what its index and its manifest say. The message names the shard and the sample."""
