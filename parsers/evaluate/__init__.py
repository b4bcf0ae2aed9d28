"""Scores of a parser on captions with gold graphs: SPICE, Set Match, kinds of nodes, causes of errors.

It may import the other modules of `parsers`, except `parsers.train`.
Start with `parsers.evaluate.evaluation`; `parsers.evaluate.__main__` is the command.
"""
