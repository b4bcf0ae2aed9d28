"""The formats in which captions are published. All are read row by row, so memory does not grow with the file.

A reader yields a `RawRow` or a `BadRow` for every row of its source, and checks the layout of the row only.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterator

from pydantic import BaseModel, NonNegativeInt

from pipeline.parse import tables
from pipeline.parse.rows import BadRow, Columns, RawRow, RawRows, list_lines, pick
from pipeline.tars import TarDamage, TarSample, read_samples
from pipeline.text_files import read_items
from shards.pictures import image_id_of_file
from shards.storage.files import AnyPath
from shards.vcr_text import PEOPLE, Word, check_words, name_objects, question_number, to_sentence

VERSION = "2"
"""It rises when a format reads other rows than before, so that no folder holds rows of two releases."""

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

    The image id is COCO's (``cocoid``) or else the file name without its extension. ``split`` is the image's split.
    """
    for number, image in enumerate(read_items(path, "images")):
        position = f"images[{number}]"
        sentences = image.get("sentences") if isinstance(image, dict) else None
        if not isinstance(image, dict) or not isinstance(sentences, list):
            yield BadRow(position, "not an object with a list `sentences`")
            continue
        name = image.get("filename")
        split = image.get("split") if isinstance(image.get("split"), str) else None
        image_id = image.get("cocoid", posixpath.splitext(name)[0] if isinstance(name, str) else None)
        for place, sentence in enumerate(sentences):
            inside = f"{position}.sentences[{place}]"
            if isinstance(sentence, dict):
                yield RawRow(inside, image_id, sentence.get("sentid"), sentence.get("raw"), split=split)
            else:
                yield BadRow(inside, "not a JSON object")


def read_json_array(path: AnyPath, columns: Columns) -> RawRows:
    """Reads a JSON array of {"image": "folder/name.jpg", "caption": ...}, as BLIP's annotations are.

    The image id is that of the file name, see `shards.pictures.image_id_of_file`. Without a file name, it is
    ``image_id``.
    """
    for number, record in enumerate(read_items(path, None)):
        position = f"[{number}]"
        if not isinstance(record, dict):
            yield BadRow(position, "not a JSON object")
        elif isinstance(name := record.get("image"), str) and "image_id" not in columns:
            yield pick(position, {**record, "image_id": image_id_of_file(name, "auto")}, columns)
        else:
            yield pick(position, record, columns)


# -------------------------------------------------------------------------------------------------------------- lines


def read_jsonl(path: AnyPath, columns: Columns) -> RawRows:
    """Reads lines of {"image_id": ..., "caption_id": ..., "caption": ...}; caption_id may be missing."""
    for position, row in _objects(path):
        if isinstance(row, BadRow):
            yield row
        else:
            yield pick(position, row, columns)


def _objects(path: AnyPath) -> Iterator[tuple[str, dict[str, object] | BadRow]]:
    for position, line in list_lines(path):
        if isinstance(line, BadRow):
            yield position, line
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield position, BadRow(position, f"not JSON ({type(error).__name__})")
            continue
        yield position, row if isinstance(row, dict) else BadRow(position, "not a JSON object")


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


# --------------------------------------------------------------------------------------------------------------- tars


def read_webdataset(path: AnyPath, columns: Columns) -> RawRows:
    """Reads a tar of img2dataset: samples of KEY.txt or KEY.json, or both, beside the pictures, which are skipped.

    The caption is the .txt, or else ``caption`` of the .json. The image id is ``url`` of the .json, as in Conceptual
    Captions, or else the key.
    """
    names = {"image_id": "url", "caption_id": "caption_id", "caption": "caption", **columns}
    for sample in read_samples(path, ("txt", "json")):
        if isinstance(sample, TarDamage):
            yield BadRow(sample.position, sample.reason)
        else:
            yield _from_sample(sample, names)


def _from_sample(sample: TarSample, columns: Columns) -> RawRow | BadRow:
    try:
        found = pick(sample.position, sample.read_json(), columns)
        caption = sample.contents["txt"].decode() if "txt" in sample.contents else found.caption
    except UnicodeDecodeError:
        return BadRow(sample.position, "invalid UTF-8")
    except ValueError as error:
        return BadRow(sample.position, str(error))
    image_id, is_key = (found.image_id, False) if found.image_id else (sample.key, True)
    return RawRow(sample.position, image_id, found.caption_id, caption, is_key=is_key)


FORMATS: dict[str, Callable[[AnyPath, Columns], RawRows]] = {
    "coco": read_coco,
    "conceptual-captions": tables.read_conceptual_captions,
    "conceptual-12m": tables.read_conceptual_12m,
    "karpathy": read_karpathy,
    "json": read_json_array,
    "jsonl": read_jsonl,
    "csv": tables.read_csv,
    "tsv": tables.read_tsv,
    "parquet": tables.read_parquet,
    "webdataset": read_webdataset,
    "vcr": read_vcr,
}
