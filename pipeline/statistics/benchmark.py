"""Reads the captions or pictures of a benchmark, which a corpus must not hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from parsers.command import InputError, pluralize, say
from pipeline.duplicates.corpus import Corpus
from pipeline.duplicates.pictures import HASH_TABLE, hash_picture
from pipeline.execution.parts import Reject
from pipeline.extract.images import ImageSource, PictureInput, load_picture
from pipeline.extract.prefetch import ahead
from pipeline.graph_table import GRAPHS
from pipeline.parse.captions import CaptionRow, read
from pipeline.parse.stage import TEST
from shards.storage.files import AnyPath

_DECODERS = 4
"""how many threads decode pictures"""
_CAPTIONS = pa.schema([GRAPHS.field(name) for name in ("image_id", "caption_id", "caption")])


def read_captions(sources: Sequence[tuple[AnyPath, str]]) -> Corpus:
    """Reads the captions of a benchmark. Where a file names splits, those of its test split are meant.

    Args:
        sources: files, each with its format (`pipeline.parse.formats.FORMATS`).

    Raises:
        InputError: there are none.
    """
    found: list[CaptionRow] = []
    rejects = 0
    for path, format in sources:
        for row in read(path, format):
            if isinstance(row, Reject):
                rejects += 1
            elif row.split in (None, TEST):
                found.append(row)
    _say_counts("caption", len(found), rejects, [path for path, _ in sources])
    columns = [pa.array([getattr(row, field.name) for row in found], field.type) for field in _CAPTIONS]
    return Corpus.read("captions", partial(iter, [pa.record_batch(columns, schema=_CAPTIONS)]))


def read_pictures(inputs: Sequence[PictureInput]) -> Corpus:
    """Reads the pictures of a benchmark and computes their hashes.

    Raises:
        InputError: there are none that can be decoded.
    """
    ids, hashes, rejects = [], [], 0
    for found in ahead(_hash, (source for one in inputs for source in one.sources()), threads=_DECODERS):
        if found is None:
            rejects += 1
        else:
            ids.append(found[0])
            hashes.append(found[1])
    _say_counts("picture", len(ids), rejects, [one.path for one in inputs])
    columns = [pa.array(values, field.type) for values, field in zip((ids, hashes), HASH_TABLE, strict=True)]
    return Corpus.read("pictures", partial(iter, [pa.record_batch(columns, schema=HASH_TABLE)]))


def _hash(source: ImageSource | Reject) -> tuple[str, bytes | None] | None:
    pixels = source if isinstance(source, Reject) else load_picture(source)
    if isinstance(source, Reject) or isinstance(pixels, Reject):
        return None
    return source.image_id, hash_picture(pixels)


def _say_counts(what: str, count: int, rejects: int, paths: Sequence[AnyPath]) -> None:
    where = ", ".join(map(str, paths))
    if count == 0:
        raise InputError(f"{where}: holds no {what} that can be read; name the benchmark's own files")
    unusable = f"; {rejects:,} more cannot be read" if rejects else ""
    say(f"benchmark: {pluralize(count, what)} of {where}{unusable}")
