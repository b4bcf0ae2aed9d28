"""Captions as the parser takes them, read from any of `pipeline.parse.formats.FORMATS`.

Every row of a source becomes a `CaptionRow` or a `Reject`, so that nothing is lost unseen.
"""

from __future__ import annotations

import ast
import html
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.execution.parts import Reject
from pipeline.ids import is_unicode, read_id, text_of_id
from pipeline.parse.formats import FORMATS
from pipeline.parse.rows import BadRow, Columns, RawRow
from shards.storage.files import AnyPath

MAX_WORDS = 512
"""the longest caption that is taken"""
MAX_CHARACTERS = 20_000
"""the longest caption in characters: words may have any length"""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""This finds bytes that were not UTF-8, which Python's ``surrogateescape`` keeps as lone surrogates."""


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """A caption and where it came from."""

    source: str
    position: str
    image_id: str
    caption_id: str | None
    caption: str
    segments: tuple[int, ...] = ()
    """the characters where the second and further segments of the caption begin"""
    unescaped: bool = False
    """whether HTML's entities were replaced in the caption"""
    is_key: bool = False
    """whether the image id is the key of a tar's sample, which other tars may have as well"""
    split: str | None = None
    """the split of a benchmark that the image belongs to, if the source names it"""


CaptionRows = Iterator[CaptionRow | Reject]


def read(path: AnyPath, format: str, columns: Columns | None = None) -> CaptionRows:
    """Reads the rows of a captions file in one of `FORMATS`.

    Raises:
        InputError: the file as a whole is not of this format.
    """
    source = str(path)
    for row in FORMATS[format](path, columns or {}):
        for one in [row] if isinstance(row, BadRow) else _split(row):
            yield Reject(source, one.position, one.reason) if isinstance(one, BadRow) else _check(source, one)


def _split(row: RawRow) -> list[RawRow | BadRow]:
    """Returns a row for each caption of a list, or of a list that was written into a cell of text."""
    captions = row.caption
    if isinstance(captions, str) and captions.startswith(("['", '["')) and captions.endswith(("']", '"]')):
        try:
            captions = _parse_list(captions)
        except (SyntaxError, ValueError, tokenize.TokenError):
            return [BadRow(row.position, "a list of captions that cannot be read")]
    if not isinstance(captions, list | tuple) or not captions:
        return [row]
    # An id belongs to one caption, so each has its number behind the id that they share.
    return [
        replace(
            row,
            position=f"{row.position}, caption {number}",
            caption_id=row.caption_id if len(captions) == 1 else _number(row.caption_id, number),
            caption=caption,
        )
        for number, caption in enumerate(captions, 1)
    ]


def _number(caption_id: object, number: int) -> object:
    text = text_of_id(caption_id)
    return caption_id if text is None else f"{text}-{number}"


def _parse_list(text: str) -> list[str]:
    """Returns the texts of a list as JSON, Python or NumPy (without commas) writes it.

    Raises:
        SyntaxError, tokenize.TokenError, ValueError: it is no such list.
    """
    captions = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING:
            captions.append(str(ast.literal_eval(token.string)))
        elif token.string.strip() not in ("[", "]", ",", ""):
            raise ValueError("no list of texts")
    return captions


def _unescape(text: str) -> str:
    """Returns the text with characters for HTML's entities, also for those that were escaped twice ("&amp;#39;")."""
    for _ in range(2):
        text = _ENTITY.sub(lambda match: html.unescape(match.group()), text)
    return text


def _check(source: str, row: RawRow) -> CaptionRow | Reject:
    try:
        image_id = read_id(row.image_id)
        caption_id = None if row.caption_id is None else read_id(row.caption_id, "caption_id")
        given = row.caption.decode() if isinstance(row.caption, bytes) else row.caption
        if not isinstance(given, str):
            raise ValueError("no caption")
        if len(given) > MAX_CHARACTERS:
            raise ValueError(f"caption of more than {MAX_CHARACTERS} characters")
        # The places of segments are characters of the text as it is given.
        text = _unescape(given) if "&" in given and not row.segments else given
        caption = text.strip()
        if not caption:
            raise ValueError("empty caption")
        if len(caption.split()) > MAX_WORDS:
            raise ValueError(f"caption of more than {MAX_WORDS} words")
        whole = f"{image_id}{caption_id}{caption}"
        if not is_unicode(whole):
            raise ValueError("invalid UTF-8" if _NOT_UTF8.search(whole) else "not valid Unicode (a lone surrogate)")
    except UnicodeDecodeError:
        return Reject(source, row.position, "invalid UTF-8")
    except ValueError as error:
        return Reject(source, row.position, str(error))
    shift = len(text) - len(text.lstrip())
    segments = tuple(start - shift for start in row.segments)
    unescaped = text != given
    return CaptionRow(source, row.position, image_id, caption_id, caption, segments, unescaped, row.is_key, row.split)
