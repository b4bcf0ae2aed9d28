"""The formats in which captions are published. All are read row by row, so memory does not grow with the file.

A reader yields a `RawRow` or a `BadRow` for every row of its source, and checks the layout of the row only.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
from pydantic import BaseModel, NonNegativeInt

from parsers.command import InputError, pluralize
from pipeline.files import read_items
from pipeline.tars import Damage, TarSample, read_samples
from shards.storage.files import AnyPath
from shards.storage.parquet import parquet_file
from shards.vcr_text import PEOPLE, Word, check_words, name_objects, question_number, to_sentence


@dataclass(frozen=True, slots=True)
class RawRow:
    """What a source says of a caption, before it is checked."""

    position: str
    image_id: object
    caption_id: object
    caption: object
    segments: tuple[int, ...] = ()
    """the characters where the second and further segments of the caption begin"""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that a reader cannot make sense of."""

    position: str
    reason: str


RawRows = Iterator[RawRow | BadRow]
Columns = Mapping[str, str]
"""The names that a source has for the columns ``image_id``, ``caption_id`` and ``caption``, if they differ."""


# --------------------------------------------------------------------------------------------------------------- JSON


def read_coco(path: AnyPath, _: Columns) -> RawRows:
    """Reads COCO captions: JSON with ``annotations`` of {image_id, id, caption}."""
    for number, annotation in enumerate(read_items(path, "annotations")):
        position = f"annotations[{number}]"
        if isinstance(annotation, dict):
            yield RawRow(position, annotation.get("image_id"), annotation.get("id"), annotation.get("caption"))
        else:
            yield BadRow(position, "not a JSON object")


def read_karpathy(path: AnyPath, _: Columns) -> RawRows:
    """Reads Karpathy's JSON with ``images`` of {filename, sentences: [{sentid, raw}]}.

    The image id is COCO's (``cocoid``) or else the file name without its extension.
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
    """Reads Conceptual Captions: lines of caption TAB image URL without a header. The URL is the image id."""
    for position, line in _lines(path):
        if isinstance(line, BadRow):
            yield line
            continue
        columns = line.split("\t")
        if len(columns) == 2:
            yield RawRow(position, columns[1].strip(), None, columns[0])
        else:
            yield BadRow(position, f"{pluralize(len(columns), 'column')}, expected caption and URL")


def read_jsonl(path: AnyPath, columns: Columns) -> RawRows:
    """Reads lines of {"image_id": ..., "caption_id": ..., "caption": ...}; caption_id may be missing."""
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


def _objects(path: AnyPath) -> Iterator[tuple[str, dict[str, object] | BadRow]]:
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


def _pick(position: str, row: Mapping[str, object], columns: Columns) -> RawRow:
    image_id, caption_id, caption = (row.get(columns.get(name, name)) for name in ("image_id", "caption_id", "caption"))
    return RawRow(position, image_id, caption_id, caption)


# ---------------------------------------------------------------------------------------------------------------- VCR


class _VcrQuestion(BaseModel):
    """What is read of a line of VCR; the test split lacks the labels."""

    annot_id: str
    objects: list[str]
    question: list[Word]
    answer_choices: list[list[Word]]
    answer_label: NonNegativeInt
    rationale_choices: list[list[Word]]
    rationale_label: NonNegativeInt

    def texts(self) -> list[str]:
        """Returns the question, its right answer and the right rationale.

        Raises:
            ValueError: a tag is not the number of an object, or the annot_id has no number.
            IndexError: there is no choice of a label's number.
        """
        names = name_objects(self.objects, PEOPLE, question_number(self.annot_id))
        answer, rationale = self.answer_choices[self.answer_label], self.rationale_choices[self.rationale_label]
        return [to_sentence(check_words(words, self.objects), names) for words in (self.question, answer, rationale)]


def read_vcr(path: AnyPath, _: Columns) -> RawRows:
    """Reads VCR's jsonl: question, right answer and right rationale are one text of three segments.

    Task pretraining learns these texts, so they are worded as fine-tuning words them, see `shards.vcr_text`.
    """
    for position, row in _objects(path):
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            texts = _VcrQuestion.model_validate(row).texts()
        except (ValueError, IndexError):
            yield BadRow(
                position,
                "annot_id, question, choices, labels (the test split has none) or objects are missing or wrong",
            )
            continue
        starts = (len(texts[0]) + 1, len(texts[0]) + len(texts[1]) + 2)
        yield RawRow(position, row.get("img_fn"), row["annot_id"], " ".join(texts), starts)


# ------------------------------------------------------------------------------------------------------------- tables


def read_csv(path: AnyPath, columns: Columns) -> RawRows:
    """Reads CSV with a header that names the columns image_id, caption and, perhaps, caption_id."""
    with path.open("rb") as stream:
        # Bytes that are not UTF-8 become lone surrogates, by which the row is later known to be bad.
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
    """Reads tab-separated lines with a header that names the columns image_id, caption and, perhaps, caption_id."""
    lines = _lines(path)
    first = next(lines, ("line 1", ""))[1]
    header = [] if isinstance(first, BadRow) else first.removeprefix("\ufeff").split("\t")
    _check_header(path, header, columns)
    for position, line in lines:
        yield line if isinstance(line, BadRow) else _from_fields(position, header, line.split("\t"), columns)


def read_parquet(path: AnyPath, columns: Columns) -> RawRows:
    """Reads Parquet with the columns image_id, caption and, perhaps, caption_id."""
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


def _values(column: pa.Array) -> list[object]:
    """Returns Python values. Bytes that are not UTF-8 become lone surrogates, as in `read_csv`."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
    values: list[object] = column.to_pylist()
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
        return BadRow(position, f"{pluralize(len(fields), 'field')} under {pluralize(len(header), 'column name')}")
    row = _pick(position, dict(zip(header, fields, strict=True)), columns)
    # An empty field is a missing one, because a table cannot tell them apart.
    return row if row.caption_id else RawRow(position, row.image_id, None, row.caption)


# --------------------------------------------------------------------------------------------------------------- tars


def read_webdataset(path: AnyPath, columns: Columns) -> RawRows:
    """Reads a tar of img2dataset: samples of KEY.txt or KEY.json, or both, beside the pictures, which are skipped.

    The caption is the .txt, or else ``caption`` of the .json. The image id is ``url`` of the .json, as in Conceptual
    Captions, or else the key.
    """
    names = {"image_id": "url", "caption_id": "caption_id", "caption": "caption", **columns}
    for sample in read_samples(path, ("txt", "json")):
        if isinstance(sample, Damage):
            yield BadRow(sample.position, sample.reason)
        else:
            yield _from_sample(sample, names)


def _from_sample(sample: TarSample, columns: Columns) -> RawRow | BadRow:
    try:
        found = _pick(sample.position, sample.read_json(), columns)
        caption = sample.contents["txt"].decode() if "txt" in sample.contents else found.caption
    except UnicodeDecodeError:
        return BadRow(sample.position, "invalid UTF-8")
    except ValueError as error:
        return BadRow(sample.position, str(error))
    return RawRow(sample.position, found.image_id or sample.key, found.caption_id, caption)


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
