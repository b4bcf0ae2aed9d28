"""The error of damaged shards."""

from parsers.command import InputError


class ShardError(InputError):
    """The bytes of a sample or a shard are not what index and manifest say. The message names shard and sample."""
