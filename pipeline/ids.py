"""The ids of images and captions, as sources give them."""

from __future__ import annotations


def text_of_id(value: object) -> str | None:
    """Returns an id as text: text as it is, and a whole number in decimal digits. Anything else is no id (None)."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)


def is_unicode(text: str) -> bool:
    """Returns whether the text can be written as UTF-8; a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
