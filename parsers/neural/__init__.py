"""A small grounded scene-graph parser: words in, roles and arcs between words out. It needs no spaCy."""
