"""Scores of a parser on captions with gold graphs: SPICE, Set Match, kinds of nodes, causes of errors.

Modules here may import the modules right in `parsers`.
Start reading at `parsers.evaluate.evaluation`; `parsers.evaluate.__main__` is the command.
"""
