"""Damaged inputs for every reader and every command: ``python -m tests.fuzz --help``.

`seeds` makes small valid inputs, `mutations` damages them, `targets` says what reads which of them, and `run` sees to
it that whatever comes ends in a result or a clear error, soon and in little memory.
"""
