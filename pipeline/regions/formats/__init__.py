"""The formats in which detector regions are published. A format cuts its sources into partitions and reads them.

Modules here may import `parsers.command`, `shards`, `pipeline.execution` and `pipeline.regions.rows`. A reader yields a
`RegionsRow` or a `Reject` for every image, and its memory does not grow with the files. Start reading at `parquet`, the
smallest format.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import Any

from parsers.command import InputError, pluralize
from pipeline.regions.formats.bottom_up_hdf5 import SUFFIXES, BottomUpHdf5
from pipeline.regions.formats.image_files import ImageFiles, load_milvlg, load_mmf, load_uniter, load_vilbert
from pipeline.regions.formats.image_sizes import is_sizes
from pipeline.regions.formats.parquet import RegionsParquet
from pipeline.regions.formats.records import NEEDED
from pipeline.regions.formats.tsv import LXMERT, BottomUpTsv, ErnieVilTsv
from pipeline.regions.formats.vilbert_lmdb import VilbertLmdb
from pipeline.regions.formats.vinvl_objects import VinvlObjects, is_vinvl_objects
from pipeline.regions.formats.vinvl_tsv import VinvlTsv, is_vinvl
from pipeline.regions.rows import RegionFormat
from shards.regions.tsv import BOTTOM_UP_ATTENTION, VQA
from shards.storage.files import AnyPath

VERSION = "1"
"""It rises when a format reads other rows than before, so that no folder holds rows of two releases."""
FORMATS: dict[str, RegionFormat[Any]] = {
    "butd-tsv": BottomUpTsv(),
    "ernie-vil-tsv": ErnieVilTsv(),
    "butd-hdf5": BottomUpHdf5(),
    "vinvl-tsv": VinvlTsv(),
    "vinvl-objects-tsv": VinvlObjects(),
    "vilbert-npz": ImageFiles(load_vilbert, f".npz or .npy file with the arrays {NEEDED}"),
    "vilbert-lmdb": VilbertLmdb(),
    "uniter-npz": ImageFiles(load_uniter, ".npz file of UNITER with features and norm_bb"),
    "milvlg-npz": ImageFiles(load_milvlg, ".npz file of MILVLG with x, bbox and num_bbox"),
    "mmf-npy": ImageFiles(load_mmf, ".npy file of MMF with its _info.npy"),
    "parquet": RegionsParquet(),
}

FORMAT_OF_COLUMNS = {
    len(BOTTOM_UP_ATTENTION): "butd-tsv",
    len(LXMERT): "butd-tsv",
    len(VQA): "ernie-vil-tsv",
}


def recognise_regions(sources: Sequence[AnyPath]) -> tuple[str, str]:
    """Returns the format of the sources, and how it was recognised.

    Raises:
        InputError: they have none of the known formats.
    """
    first = next((source for source in sources if not is_sizes(source)), sources[0])
    if first.is_dir():
        if any(first.glob("data.mdb")):
            return "vilbert-lmdb", "a folder with an LMDB"
        if arrays := sorted((path for path in first.iterdir() if path.suffix in (".npz", ".npy")), key=str):
            return _recognise_file(arrays[0]), f"a folder of {arrays[0].suffix} files"
        if any(first.glob("*.parquet")):
            return "parquet", "a folder of .parquet files"
    elif first.suffix in (".npz", ".npy"):
        return _recognise_file(first), f"an {first.suffix} file"
    elif first.suffix in (".mdb", ".lmdb"):
        return "vilbert-lmdb", f"a {first.suffix} file"
    elif first.suffix in SUFFIXES:
        return "butd-hdf5", f"an {first.suffix} file"
    else:
        with first.open("rb") as stream:
            line = stream.readline()
        if line.startswith(b"PAR1"):
            return "parquet", "it begins as Parquet does"
        columns = line.count(b"\t") + 1
        if is_vinvl(line):
            return "vinvl-tsv", f"{pluralize(columns, 'tab-separated column')} as VinVL has them"
        if columns == 2 and is_vinvl_objects(line):
            return "vinvl-objects-tsv", "a key and JSON of objects with their features on each line"
        if columns in FORMAT_OF_COLUMNS:
            return FORMAT_OF_COLUMNS[columns], f"{pluralize(columns, 'tab-separated column')}"
    raise InputError(f"{first}: format not recognised; name it with --format ({', '.join(FORMATS)})")


def _recognise_file(path: AnyPath) -> str:
    """Returns the layout of a file of one image, which the names of its arrays tell."""
    if path.suffix == ".npy":
        name = path.name if path.name.endswith("_info.npy") else f"{path.stem}_info.npy"
        return "mmf-npy" if path.with_name(name).is_file() else "vilbert-npz"
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            names = set(archive.namelist())
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return "vilbert-npz"  # its reader says what is wrong
    if "norm_bb.npy" in names:
        return "uniter-npz"
    return "milvlg-npz" if {"x.npy", "num_bbox.npy"} <= names else "vilbert-npz"
