"""The parser that applies rules to spaCy's dependency trees.

Modules here may import `parsers.graph` and `parsers.tokens`.
Start reading at `parsers.dependency.parser`; the word lists are in `parsers.dependency.lexicon`.
"""
