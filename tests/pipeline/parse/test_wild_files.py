"""Small files in shapes that people have, each with the rows and rejects that it must give."""

import pytest

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.parse import captions
from pipeline.parse.recognition import recognise_captions

EXPECTED = {
    "csv-quote-unbalanced.csv": (398, 2),
    "csv-quote-two.csv": (398, 2),
    "csv-quote-backslash.csv": (1, 1),
    "cc12m-cc12m.tsv": (4, 0),
    "cc12m-labels.tsv": (1, 0),
    "cc12m-header.tsv": (1, 0),
    "json-list-lists.jsonl": (2, 0),
    "json-list-coco_lists.json": (2, 0),
    "json-list-blip.json": (2, 0),
    "encodings-bom.jsonl": (3, 0),
    "encodings-bom-coco.json": (1, 0),
    "encodings-bom-cc.tsv": (2, 0),
    "encodings-c.json.gz": (1, 0),
    "encodings-c.jsonl.gz": (3, 0),
    "encodings-odd.jsonl": (24, 0),
    "float-ids-float.parquet": (2, 1),
    "float-ids-float.csv": (2, 1),
    "float-ids-bytes.parquet": (2, 0),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_row_of_a_file_is_accounted_for(shared, name):
    path = shared / "cases/inputs" / name
    rows = list(captions.read(path, recognise_captions(path)[0]))
    rejects = sum(isinstance(row, Reject) for row in rows)
    assert (len(rows) - rejects, rejects) == EXPECTED[name]


def test_utf_16_is_refused(shared):
    with pytest.raises(InputError, match="UTF-16"):
        recognise_captions(shared / "cases/inputs/encodings-utf16.csv")
