"""How the neural parser is trained: gold triples are tied to words, teachers read captions, a network learns from both.

It may import all other modules of `parsers`.
Start with `parsers.train.training`; `parsers.train.__main__` is the command.
"""
