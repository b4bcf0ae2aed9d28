"""Captions in tables: CSV, TSV, Conceptual Captions and Parquet."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence

import pyarrow as pa

from parsers.command import InputError, pluralize
from pipeline.files import check_regular
from pipeline.parse.rows import (
    FILE_COLUMNS,
    TOO_LONG,
    BadRow,
    Columns,
    RawRow,
    RawRows,
    find_image_column,
    list_lines,
    pick,
)
from pipeline.text_files import MAX_LINE, open_text, read_bounded_lines
from shards.storage.files import AnyPath
from shards.storage.parquet import parquet_file

MAX_ROW_LINES = 64
"""the most lines that a quoted cell may take in"""


def read_csv(path: AnyPath, columns: Columns) -> RawRows:
    """Reads CSV with a header that names the columns image_id (or `FILE_COLUMNS`), caption and, perhaps, caption_id.

    A quote that stands open by mistake makes one row of many lines. Where that cannot be a row, its first line is
    rejected, and the other lines are read as rows of their own.
    """
    with open_text(path) as stream:
        # Bytes that are not UTF-8 become lone surrogates, by which the row is later known to be bad.
        text = io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="")
        lines = enumerate(read_bounded_lines(text.readline, "\n"), 1)
        waiting: deque[tuple[int, str | None]] = deque()
        header: list[str] | None = None
        while True:
            taken: list[tuple[int, str | None]] = []
            fields, fault = _read_row(_take(waiting, lines, taken))
            if not taken:
                break
            if header is None:
                header = fields
                _check_header(path, header, columns)
                continue
            first, last = taken[0][0], taken[-1][0]
            fault = fault or _find_fault(header, fields, taken, columns)
            if fault is None:
                yield _from_fields(f"line {first}", header, fields, columns)
                continue
            if last > first:
                fault += ", where an open quote takes in the lines below"
                waiting.extendleft(reversed(taken[1:]))
            yield BadRow(f"line {first}", fault)
    if header is None:
        _check_header(path, [], columns)


def _take(
    waiting: deque[tuple[int, str | None]],
    lines: Iterator[tuple[int, str | None]],
    taken: list[tuple[int, str | None]],
) -> Iterator[str]:
    """Yields the lines of a row as the CSV reader asks for them, and keeps what it took."""
    while len(taken) < MAX_ROW_LINES:
        line = waiting.popleft() if waiting else next(lines, None)
        if line is None:
            return
        taken.append(line)
        if line[1] is None:
            raise csv.Error(TOO_LONG)
        yield line[1]


def _read_row(lines: Iterator[str]) -> tuple[list[str], str | None]:
    """Returns the fields of the row at the beginning of the lines, and what is wrong with it."""
    try:
        return next(csv.reader(lines, strict=True), []), None
    except csv.Error as error:
        return [], f"not CSV ({error})"


def _find_fault(
    header: Sequence[str], fields: Sequence[str], taken: Sequence[tuple[int, str | None]], columns: Columns
) -> str | None:
    """Returns what is wrong with the layout of a row."""
    if len(fields) != len(header):
        return f"{pluralize(len(fields), 'field')} under {pluralize(len(header), 'column name')}"
    place = header.index(find_image_column(header, columns))
    if len(taken) == 1:
        return None
    if "\n" in fields[place]:
        return "a line break in the image id"
    inside = [_read_row(iter((line or "",)))[0] or (line or "").split(",") for _, line in taken[1:]]
    whole = [row for row in inside if len(row) == len(header)]
    if any(_kinds(row[place]) == _kinds(fields[place]) for row in whole) or len(whole) == len(inside) > 1:
        return "a cell that holds whole rows"
    return None


def _kinds(text: str) -> tuple[bool, ...]:
    """Returns which kinds of characters an id has: digits, letters, spaces, those of a URL."""
    text = text.strip()
    return any(map(str.isdigit, text)), any(map(str.isalpha, text)), any(map(str.isspace, text)), "://" in text


def read_tsv(path: AnyPath, columns: Columns) -> RawRows:
    """Reads tab-separated lines with a header that names the columns image_id, caption and, perhaps, caption_id."""
    lines = list_lines(path)
    first = next(lines, ("line 1", ""))[1]
    header = [] if isinstance(first, BadRow) else first.split("\t")
    _check_header(path, header, columns)
    for position, line in lines:
        if isinstance(line, BadRow):
            yield line
            continue
        fields = line.split("\t")
        fault = _find_fault(header, fields, ((1, line),), columns)
        yield BadRow(position, fault) if fault else _from_fields(position, header, fields, columns)


def _check_header(path: AnyPath, header: Sequence[str], columns: Columns) -> None:
    needed = (find_image_column(header, columns), columns.get("caption", "caption"))
    missing = [name for name in needed if name not in header]
    if missing:
        raise InputError(
            f"{path}: has no column {' and no column '.join(map(repr, missing))}, "
            f"only {', '.join(header) or 'nothing'}; "
            "say which to read with --columns, for example --columns image_id=url,caption=text"
        )


def _from_fields(position: str, header: Sequence[str], fields: Sequence[str], columns: Columns) -> RawRow:
    row = pick(position, dict(zip(header, fields, strict=True)), columns)
    # An empty field is a missing one, because a table cannot tell them apart.
    return row if row.caption_id else RawRow(position, row.image_id, None, row.caption)


# ------------------------------------------------------------------------------------------------- Conceptual Captions


def read_conceptual_captions(path: AnyPath, _: Columns) -> RawRows:
    """Reads Conceptual Captions: caption TAB image URL, perhaps with three columns of machine labels behind them."""
    return _read_pairs(path, url=1, caption=0)


def read_conceptual_12m(path: AnyPath, _: Columns) -> RawRows:
    """Reads Conceptual 12M: image URL TAB caption."""
    return _read_pairs(path, url=0, caption=1)


def _read_pairs(path: AnyPath, url: int, caption: int) -> RawRows:
    """Reads lines of captions and URLs. The URL is the image id."""
    for position, line in list_lines(path):
        if isinstance(line, BadRow):
            yield line
            continue
        fields = line.split("\t")
        address = fields[url].strip() if len(fields) in (2, 5) else ""
        if position == "line 1" and names_pairs(fields):
            continue
        if len(fields) not in (2, 5):
            yield BadRow(position, f"{pluralize(len(fields), 'column')}, expected caption and URL")
        elif address and not is_url(address):
            yield BadRow(position, f"no URL in column {url + 1}, where this format has it")
        else:
            yield RawRow(position, address, None, fields[caption])


def names_pairs(fields: Sequence[str]) -> bool:
    """Returns whether a line is a header over captions and URLs."""
    return sorted(field.strip().lower() for field in fields[:2]) == ["caption", "url"]


def is_url(text: str) -> bool:
    """Returns whether a cell holds an address and no sentence."""
    return "://" in text and len(text.split()) == 1


# ------------------------------------------------------------------------------------------------------------- Parquet


def read_parquet(path: AnyPath, columns: Columns) -> RawRows:
    """Reads Parquet with the columns image_id, caption and, perhaps, caption_id."""
    try:
        check_regular(path)
        file = parquet_file(path)
        names = file.schema_arrow.names
        _check_header(path, names, columns)
        image = find_image_column(names, columns)
        if image not in FILE_COLUMNS:
            columns = {**columns, "image_id": image}  # rows have the wanted columns alone, which tell less than all
        wanted = {image, *(columns.get(name, name) for name in ("caption_id", "caption"))}
        number = 0
        for batch in file.iter_batches(4096, columns=[name for name in names if name in wanted]):
            values = {name: _values(batch.column(name)) for name in batch.schema.names}
            for i in range(len(batch)):
                number += 1
                if any(column[i] is TOO_LONG for column in values.values()):
                    yield BadRow(f"row {number}", TOO_LONG)
                    continue
                yield pick(f"row {number}", {name: column[i] for name, column in values.items()}, columns)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error


def _values(column: pa.Array) -> list[object]:
    """Returns Python values. Bytes that are not UTF-8 become lone surrogates, as in `read_csv`.

    `TOO_LONG` stands for a list of more than `MAX_LINE` bytes, which would take ten times as many in Python.
    """
    if pa.types.is_nested(column.type):
        sizes = (column.slice(i, 1).nbytes for i in range(len(column)))
        return [column[i].as_py() if size <= MAX_LINE else TOO_LONG for i, size in enumerate(sizes)]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
    values: list[object] = column.to_pylist()
    return values
