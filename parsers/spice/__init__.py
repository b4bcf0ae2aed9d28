"""SPICE and Soft-SPICE of captions: how well do they say what reference captions of the same images say?

Modules here may import the modules right in `parsers`, and `parsers.evaluate`.
Start reading at `parsers.spice.scorer`; `parsers.spice.__main__` is the command.
"""
