"""The lemmas of English verbs: WordNet's ``morphy``, without spaCy, from a file beside this module.

The file holds WordNet's verbs of one word, one a line, and its irregular forms, each before its verb. Its licence is
WordNet's, which lets anyone copy it. `parsers.lemmatizer` reads the same tables from a spaCy model, and a test compares
the two.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("verbs.txt.gz")
_ENDINGS = (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""))
"""What stands at the end of a regular form, and what at the end of its verb."""


def find_verbs(form: str) -> tuple[str, ...]:
    """Returns the verbs that a word may be a form of: "pose" for "posed", and none for "across"."""
    verbs, irregular = _read_table()
    stems = irregular.get(form) or [form[: -len(end)] + new for end, new in _ENDINGS if form.endswith(end)]
    return tuple(dict.fromkeys(stem for stem in (form, *stems) if stem in verbs))


@cache
def _read_table() -> tuple[frozenset[str], dict[str, list[str]]]:
    """Returns the verbs, and those of each irregular form."""
    verbs: set[str] = set()
    irregular: dict[str, list[str]] = {}
    for line in gzip.decompress(FILE.read_bytes()).decode().splitlines():
        *forms, verb = line.split()
        for form in forms:
            irregular.setdefault(form, []).append(verb)
        if not forms:
            verbs.add(verb)
    return frozenset(verbs), irregular
