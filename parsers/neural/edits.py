"""Edits: how a word of the caption becomes a label.

An edit cuts letters off the end of a word and adds others: "-3+e" makes "ride" of "riding". An edit that starts with
"=" replaces the word: "=2" makes "2" of any word. The same few edits serve all words, so that the network can choose an
edit for a word that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

KEEP = "-0+"
"""The edit that leaves a word as it is."""
JOINTS = {"^": "", "~": "-"}
"""First characters of edits that join the last two words of a phrase, and what then stands between the words."""
MARKS = "".join(JOINTS)
REST = "* "
"""Start of a relation label that gives all but the first word; the first word is made by an edit."""


def find_edit(form: str, label: str) -> str:
    """Returns the edit that makes ``label`` of ``form``: "-3+e" for "riding" and "ride", "=2" for "two" and "2"."""
    shared = next((i for i, (a, b) in enumerate(zip(form, label, strict=False)) if a != b), min(len(form), len(label)))
    if shared < min(2, len(label)):
        return f"={label}"
    return f"-{len(form) - shared}+{label[shared:]}"


def find_phrase_edit(words: Sequence[str], label: str) -> str:
    """Returns the edit of a phrase's last word, which may join that word to the one before.

    For instance, it is "-1+" for "hot dogs" and "hot dog", and "^-0+" for "cell phone" and "cellphone".

    Args:
        words: the phrase as it stands in the caption.
        label: what the phrase is called in the graph.
    """
    if len(words) == 1:
        return find_edit(words[0], label)
    *_, before, last = words
    ending = label.split()[-1]
    if ending.startswith(before) and before.isalnum():
        for mark, joint in JOINTS.items():
            rest = ending.removeprefix(before + joint)
            if rest[:1] == last[:1] and rest != ending:
                return mark + find_edit(last, rest)
    return find_edit(last, ending.rpartition("-")[2])


@lru_cache(maxsize=1 << 16)
def apply_edit(edit: str, form: str) -> str:
    """Applies an edit to one word. A word that is too short for the edit stays as it is."""
    edit = edit.lstrip(MARKS)
    if edit.startswith("="):
        return edit[1:]
    cut, added = edit[1:].split("+", 1)
    return form[: len(form) - int(cut)] + added if int(cut) < len(form) else form


def makes_words(edit: str, form: str, is_word: Callable[[str], bool]) -> bool:
    """Tells whether an edit leaves a form alone, replaces the whole form, or makes words of it."""
    edit = edit.lstrip(MARKS)
    return edit == KEEP or edit.startswith("=") or all(map(is_word, apply_edit(edit, form).split()))
