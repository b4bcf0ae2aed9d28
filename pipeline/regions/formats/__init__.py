"""The formats in which detector regions are published. A format cuts its sources into partitions and reads them.

Modules here may import `parsers.command`, `shards`, `pipeline.execution` and `pipeline.regions.rows`. A reader yields a
`RegionsRow` or a `Reject` for every image, and its memory does not grow with the files. Start reading at `parquet`, the
smallest format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parsers.command import InputError, pluralize
from pipeline.regions.formats.parquet import RegionsParquet
from pipeline.regions.formats.tsv import COLUMNS, LXMERT, BottomUpTsv, ErnieVilTsv
from pipeline.regions.formats.vilbert import VilbertFiles, VilbertLmdb
from pipeline.regions.rows import RegionFormat
from shards.storage.files import AnyPath

FORMATS: dict[str, RegionFormat[Any]] = {
    "butd-tsv": BottomUpTsv(),
    "ernie-vil-tsv": ErnieVilTsv(),
    "vilbert-npz": VilbertFiles(),
    "vilbert-lmdb": VilbertLmdb(),
    "parquet": RegionsParquet(),
}


def recognise(sources: Sequence[AnyPath]) -> tuple[str, str]:
    """Returns the format of the sources, and how it was recognised.

    Raises:
        InputError: they have none of the known formats.
    """
    first = sources[0]
    if first.is_dir():
        for name, format, why in (
            ("data.mdb", "vilbert-lmdb", "a folder with an LMDB"),
            ("*.npz", "vilbert-npz", "a folder of .npz files"),
            ("*.npy", "vilbert-npz", "a folder of .npy files"),
            ("*.parquet", "parquet", "a folder of .parquet files"),
        ):
            if any(first.glob(name)):
                return format, why
    elif first.suffix in (".npz", ".npy"):
        return "vilbert-npz", f"an {first.suffix} file"
    elif first.suffix in (".mdb", ".lmdb"):
        return "vilbert-lmdb", f"a {first.suffix} file"
    else:
        with first.open("rb") as stream:
            line = stream.readline()
        if line.startswith(b"PAR1"):
            return "parquet", "it begins as Parquet does"
        columns = line.count(b"\t") + 1
        if columns in COLUMNS:
            format = "ernie-vil-tsv" if columns not in (len(LXMERT), 6) else "butd-tsv"
            return format, f"{pluralize(columns, 'tab-separated column')}"
    raise InputError(f"{first}: format not recognised; name it with --format ({', '.join(FORMATS)})")
