"""Receives the files of a form and puts them on the disk, without ever holding one in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from matcher.serve.projects.archives import MAX_FILES
from parsers.command import InputError

MAX_FIELD = 10_000
"""A field that is no file has at most so many bytes."""


@dataclass
class Form:
    """What a form sent."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, Path]] = field(default_factory=list)
    """the name that each file was given, and where it lies now"""


class _Receiver:
    """The callbacks of the parser. Files are called 0, 1, 2 ... in the folder."""

    def __init__(self, folder: Path) -> None:
        self.form, self._folder = Form(), folder
        self._header, self._value = b"", b""
        self._name, self._text = "", bytearray()
        self._stream: BinaryIO | None = None
        self._disposition = b""

    def on_part_begin(self) -> None:
        self._disposition, self._text, self._stream = b"", bytearray(), None

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            if len(self.form.files) >= MAX_FILES:
                raise InputError(f"more than {MAX_FILES:,} files at once; put them in at several times")
            path = self._folder / str(len(self.form.files))
            self._stream = path.open("xb")
            self.form.files.append((options[b"filename"].decode("utf-8", "replace"), path))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._stream is not None:
            self._stream.write(data[start:end])
        elif len(self._text) + end - start > MAX_FIELD:
            raise InputError(f"the field {self._name!r:.50} has more than {MAX_FIELD:,} bytes")
        else:
            self._text += data[start:end]

    def on_part_end(self) -> None:
        if self._stream is None:
            self.form.fields[self._name] = self._text.decode("utf-8", "replace")
        else:
            self.close()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


async def receive_form(request: Request, folder: Path) -> Form:
    """Receives a form.

    Args:
        request: a request whose size is bounded already, see `guard`.
        folder: an empty folder for its files.

    Raises:
        InputError: this is no form with files, or it is cut off.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise InputError("no form with files came; send multipart/form-data")
    receiver = _Receiver(folder)
    try:
        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": receiver.on_part_begin,
                "on_header_field": receiver.on_header_field,
                "on_header_value": receiver.on_header_value,
                "on_header_end": receiver.on_header_end,
                "on_headers_finished": receiver.on_headers_finished,
                "on_part_data": receiver.on_part_data,
                "on_part_end": receiver.on_part_end,
            },
        )
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise InputError(f"the form is damaged or cut off: {error}") from error
    finally:
        receiver.close()
    form = receiver.form
    # A browser sends a nameless empty file for a field in which none was chosen.
    form.files = [(name, path) for name, path in form.files if name or path.stat().st_size]
    return form
