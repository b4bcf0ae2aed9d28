"""The one exception that means: something the user gave is wrong, and the message says what, where and what to do."""


class InputError(Exception):
    """Bad input. Commands print its message without a traceback and exit with code 1."""
