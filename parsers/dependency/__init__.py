"""The parser that applies rules to spaCy's dependency trees.

It may import `parsers.graph` and `parsers.tokens`.
Start with `parsers.dependency.parser`; the word lists are in `parsers.dependency.lexicon`.
"""
