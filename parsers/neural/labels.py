"""How a word becomes a label: by cutting its end and adding another, or by taking a whole label instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

SAME = "-0+"


def edit(form: str, label: str) -> str:
    """The edit that makes ``label`` of ``form``: "-3+e" makes "ride" of "riding"; "=2" makes "2" of any word."""
    shared = next((i for i, (a, b) in enumerate(zip(form, label, strict=False)) if a != b), min(len(form), len(label)))
    if shared < min(2, len(label)):
        return f"={label}"
    return f"-{len(form) - shared}+{label[shared:]}"


@lru_cache(maxsize=1 << 16)
def apply(edit: str, form: str) -> str:
    """Applies an edit; a word that is too short for it stays as it is."""
    if edit.startswith("="):
        return edit[1:]
    cut, added = edit[1:].split("+", 1)
    return form[: len(form) - int(cut)] + added if int(cut) < len(form) else form


def vocabulary(labels: Iterable[str], first: Sequence[str], least: int) -> tuple[str, ...]:
    """``first`` and every label that occurs at least ``least`` times, the most frequent ones first."""
    counts = Counter(labels)
    frequent = sorted((label for label, n in counts.items() if n >= least), key=lambda label: (-counts[label], label))
    return tuple(dict.fromkeys((*first, *frequent)))
