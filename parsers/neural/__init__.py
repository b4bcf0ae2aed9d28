"""The neural parser: a small network scores which words are nodes of the graph and which nodes belong together.

Modules here may import `parsers.graph`.
Start reading at `parsers.neural.parser`; `parsers.train` trains the network, and ``model/`` holds the shipped one.
"""
