"""How the neural parser is trained: gold triples are tied to words, teachers read captions, a network learns from both.

Modules here may import `parsers.neural`, `parsers.evaluate` and the modules right in `parsers`.
Start reading at `parsers.train.training`; `parsers.train.__main__` is the command.
"""
