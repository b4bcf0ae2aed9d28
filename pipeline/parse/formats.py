"""The formats in which captions are published, read row by row: memory does not grow with the file.

A reader yields a `RawRow` or a `BadRow` for every row of its source and judges no more than its layout.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from parsers.command import InputError
from pipeline.files import read_items
from pipeline.tars import Damage, read_samples
from shards.storage.files import AnyPath
from shards.storage.parquet import parquet_file
from shards.vcr_text import PEOPLE, Word, check_words, name_objects, question_number, to_sentence


@dataclass(frozen=True, slots=True)
class RawRow:
    """What a source says of a caption, not yet checked."""

    position: str
    image_id: Any
    caption_id: Any
    caption: Any
    segments: tuple[int, ...] = ()
    """Where in the caption its second and further segments begin."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read."""

    position: str
    reason: str


RawRows = Iterator[RawRow | BadRow]
Columns = Mapping[str, str]
"""The source's names of the columns ``image_id``, ``caption_id`` and ``caption`` where they differ."""


# --------------------------------------------------------------------------------------------------------------- JSON


def read_coco(path: AnyPath, _: Columns) -> RawRows:
    """COCO captions JSON: ``annotations`` of {image_id, id, caption}."""
    for number, annotation in enumerate(read_items(path, "annotations")):
        position = f"annotations[{number}]"
        if isinstance(annotation, dict):
            yield RawRow(position, annotation.get("image_id"), annotation.get("id"), annotation.get("caption"))
        else:
            yield BadRow(position, "not a JSON object")


def read_karpathy(path: AnyPath, _: Columns) -> RawRows:
    """Karpathy's JSON: ``images`` of {filename, sentences: [{sentid, raw}]}.

    The image id is COCO's where there is one (``cocoid``), else the file name without its extension.
    """
    for number, image in enumerate(read_items(path, "images")):
        position = f"images[{number}]"
        sentences = image.get("sentences") if isinstance(image, dict) else None
        if not isinstance(image, dict) or not isinstance(sentences, list):
            yield BadRow(position, "not an object with a list `sentences`")
            continue
        name = image.get("filename")
        image_id = image.get("cocoid", posixpath.splitext(name)[0] if isinstance(name, str) else None)
        for place, sentence in enumerate(sentences):
            inside = f"{position}.sentences[{place}]"
            if isinstance(sentence, dict):
                yield RawRow(inside, image_id, sentence.get("sentid"), sentence.get("raw"))
            else:
                yield BadRow(inside, "not a JSON object")


# -------------------------------------------------------------------------------------------------------------- lines


def read_conceptual_captions(path: AnyPath, _: Columns) -> RawRows:
    """Conceptual Captions TSV: caption TAB image URL, no header. The URL is the image id."""
    for position, line in _lines(path):
        if isinstance(line, BadRow):
            yield line
            continue
        columns = line.split("\t")
        if len(columns) == 2:
            yield RawRow(position, columns[1].strip(), None, columns[0])
        else:
            yield BadRow(position, f"{len(columns)} columns, expected caption and URL")


def read_jsonl(path: AnyPath, columns: Columns) -> RawRows:
    """JSON lines: {"image_id": ..., "caption_id": ..., "caption": ...}; caption_id may be missing."""
    for position, row in _objects(path):
        if isinstance(row, BadRow):
            yield row
        else:
            yield _pick(position, row, columns)


def _lines(path: AnyPath) -> Iterator[tuple[str, str | BadRow]]:
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            position = f"line {number}"
            try:
                yield position, raw.rstrip(b"\r\n").decode()
            except UnicodeDecodeError:
                yield position, BadRow(position, "invalid UTF-8")


def _objects(path: AnyPath) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    for position, line in _lines(path):
        if isinstance(line, BadRow):
            yield position, line
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield position, BadRow(position, f"not JSON ({type(error).__name__})")
            continue
        yield position, row if isinstance(row, dict) else BadRow(position, "not a JSON object")


def _pick(position: str, row: Mapping[str, Any], columns: Columns) -> RawRow:
    image_id, caption_id, caption = (row.get(columns.get(name, name)) for name in ("image_id", "caption_id", "caption"))
    return RawRow(position, image_id, caption_id, caption)


# ---------------------------------------------------------------------------------------------------------------- VCR


def read_vcr(path: AnyPath, _: Columns) -> RawRows:
    """Reads VCR's jsonl: question, right answer and right rationale are one text of three segments.

    Task pretraining learns these texts, so they are worded as fine-tuning words them, see `shards.vcr_text`.
    """
    for position, row in _objects(path):
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            objects = row["objects"]
            names = name_objects(objects, PEOPLE, question_number(row["annot_id"]))
            texts = [to_sentence(check_words(words, objects), names) for words in _right_texts(row)]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            yield BadRow(
                position,
                "annot_id, question, choices, labels (the test split has none) or objects are missing or wrong",
            )
            continue
        starts = (len(texts[0]) + 1, len(texts[0]) + len(texts[1]) + 2)
        yield RawRow(position, row.get("img_fn"), row["annot_id"], " ".join(texts), starts)


def _right_texts(row: Mapping[str, Any]) -> tuple[list[Word], ...]:
    """Returns the question, its right answer and the right rationale."""
    return (
        row["question"],
        row["answer_choices"][row["answer_label"]],
        row["rationale_choices"][row["rationale_label"]],
    )


# ------------------------------------------------------------------------------------------------------------- tables


def read_csv(path: AnyPath, columns: Columns) -> RawRows:
    """CSV with a header that names the columns image_id, caption and, perhaps, caption_id."""
    with path.open("rb") as stream:
        # Bytes that are no UTF-8 become lone surrogates, by which the row is known as bad.
        rows = csv.reader(io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline=""))
        header = next(rows, [])
        _check_header(path, header, columns)
        while True:
            position = f"line {rows.line_num + 1}"
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(position, f"not CSV ({error})")
                continue
            yield _from_fields(position, header, row, columns)


def read_tsv(path: AnyPath, columns: Columns) -> RawRows:
    """Tab-separated lines under a header that names the columns image_id, caption and, perhaps, caption_id."""
    lines = _lines(path)
    first = next(lines, ("line 1", ""))[1]
    header = [] if isinstance(first, BadRow) else first.removeprefix("\ufeff").split("\t")
    _check_header(path, header, columns)
    for position, line in lines:
        yield line if isinstance(line, BadRow) else _from_fields(position, header, line.split("\t"), columns)


def read_parquet(path: AnyPath, columns: Columns) -> RawRows:
    """Parquet with the columns image_id, caption and, perhaps, caption_id."""
    try:
        file = parquet_file(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
    _check_header(path, file.schema_arrow.names, columns)
    wanted = {name: columns.get(name, name) for name in ("image_id", "caption_id", "caption")}
    number = 0
    for batch in file.iter_batches(4096, columns=[name for name in wanted.values() if name in file.schema_arrow.names]):
        values = {name: _values(batch.column(name)) for name in batch.schema.names}
        for i in range(len(batch)):
            number += 1
            yield _pick(f"row {number}", {name: column[i] for name, column in values.items()}, columns)


def _values(column: pa.Array) -> list[Any]:
    """Python values; text that is no UTF-8 gets lone surrogates, by which the row is known as bad."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
    values: list[Any] = column.to_pylist()
    return values


def _check_header(path: AnyPath, header: list[str], columns: Columns) -> None:
    missing = [name for name in (columns.get(n, n) for n in ("image_id", "caption")) if name not in header]
    if missing:
        raise InputError(
            f"{path}: has no column {' and no column '.join(map(repr, missing))}, "
            f"only {', '.join(header) or 'nothing'}; "
            "say which to read with --columns, for example --columns image_id=url,caption=text"
        )


def _from_fields(position: str, header: list[str], fields: list[str], columns: Columns) -> RawRow | BadRow:
    if len(fields) != len(header):
        return BadRow(position, f"{len(fields)} fields under {len(header)} column names")
    row = _pick(position, dict(zip(header, fields, strict=True)), columns)
    # An empty field is a missing one: a table cannot tell them apart.
    return row if row.caption_id else RawRow(position, row.image_id, None, row.caption)


# --------------------------------------------------------------------------------------------------------------- tars


def read_webdataset(path: AnyPath, columns: Columns) -> RawRows:
    """A tar of img2dataset: samples of KEY.txt or KEY.json, or both, beside the pictures, which are skipped.

    The caption is the .txt or else ``caption`` of the .json. The image id is ``url`` of the .json, or the key if it
    has none, so it is the one that Conceptual Captions has.
    """
    names = {"image_id": "url", "caption_id": "caption_id", "caption": "caption", **columns}
    for sample in read_samples(path, ("txt", "json")):
        if isinstance(sample, Damage):
            yield BadRow(sample.position, sample.reason)
        else:
            yield _from_members(sample.key, sample.contents, names)


def _from_members(key: str, members: dict[str, bytes], columns: Columns) -> RawRow | BadRow:
    position = f"sample {key}"
    try:
        text = {extension: data.decode() for extension, data in members.items()}
        row = json.loads(text.get("json", "{}"))
    except UnicodeDecodeError:
        return BadRow(position, "invalid UTF-8")
    except (ValueError, RecursionError):
        return BadRow(position, "its .json is not JSON")
    if not isinstance(row, dict):
        return BadRow(position, "its .json is not a JSON object")
    found = _pick(position, row, columns)
    return RawRow(position, found.image_id or key, found.caption_id, text.get("txt", found.caption))


FORMATS: dict[str, Callable[[AnyPath, Columns], RawRows]] = {
    "coco": read_coco,
    "conceptual-captions": read_conceptual_captions,
    "karpathy": read_karpathy,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "webdataset": read_webdataset,
    "vcr": read_vcr,
}
