"""The exceptions that mean: something the user gave is wrong, and the message says what, where and what to do."""


class InputError(Exception):
    """Bad input. Commands print its message without a traceback and exit with code 1."""


class ShardError(InputError):
    """The bytes of a sample or a shard are not what index and manifest say. The message names shard and sample."""
