"""How words become a label: by cutting the end of the last one and adding another, or by a whole label instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

SAME = "-0+"
JOINTS = {"^": "", "~": "-"}
"""What an edit begins with where the last two words of a phrase become one, and what then stands between them."""
MARKS = "".join(JOINTS)
REST = "* "
"""What the label of a relation begins with where its first word is the first word's label, and the rest is taken."""


def edit(form: str, label: str) -> str:
    """The edit that makes ``label`` of ``form``: "-3+e" makes "ride" of "riding"; "=2" makes "2" of any word."""
    shared = next((i for i, (a, b) in enumerate(zip(form, label, strict=False)) if a != b), min(len(form), len(label)))
    if shared < min(2, len(label)):
        return f"={label}"
    return f"-{len(form) - shared}+{label[shared:]}"


def phrase_edit(words: Sequence[str], label: str) -> str:
    """The edit of a phrase's last word, which may join it to the one before: "^-0+" makes "cellphone" of "cell phone".

    Args:
        words: the phrase as it stands in the caption.
    """
    if len(words) == 1:
        return edit(words[0], label)
    *_, before, last = words
    ending = label.split()[-1]
    if ending.startswith(before) and before.isalnum():
        for mark, joint in JOINTS.items():
            rest = ending.removeprefix(before + joint)
            if rest[:1] == last[:1] and rest != ending:
                return mark + edit(last, rest)
    return edit(last, ending.rpartition("-")[2])


@lru_cache(maxsize=1 << 16)
def apply(edit: str, form: str) -> str:
    """Applies an edit to one word; a word that is too short for it stays as it is."""
    edit = edit.lstrip(MARKS)
    if edit.startswith("="):
        return edit[1:]
    cut, added = edit[1:].split("+", 1)
    return form[: len(form) - int(cut)] + added if int(cut) < len(form) else form


def is_sound(edit: str, form: str, is_word: Callable[[str], bool]) -> bool:
    """Whether an edit leaves a form alone, replaces it whole, or makes words of it."""
    edit = edit.lstrip(MARKS)
    return edit == SAME or edit.startswith("=") or all(map(is_word, apply(edit, form).split()))


def vocabulary(labels: Iterable[str], first: Sequence[str], least: int) -> tuple[str, ...]:
    """``first`` and every label that occurs at least ``least`` times, the most frequent ones first."""
    counts = Counter(labels)
    frequent = sorted((label for label, n in counts.items() if n >= least), key=lambda label: (-counts[label], label))
    return tuple(dict.fromkeys((*first, *frequent)))
