"""Quotes that stand open in CSV, and the layouts of Conceptual Captions."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.parse import captions
from pipeline.parse.recognition import recognise_captions
from pipeline.parse.rows import BadRow
from pipeline.parse.tables import read_parquet
from tests.pipeline.parse.sources import plain, write

ROWS = [f"{n},a dog number {n} on a beach" for n in range(200)]


def account(path):
    """The image ids of the rows, and the lines of the rejects."""
    rows = list(captions.read(path, recognise_captions(path)[0]))
    bad = [int(row.position.removeprefix("line ")) for row in rows if isinstance(row, Reject)]
    return [row.image_id for row in rows if not isinstance(row, Reject)], bad


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({100: '100,"an open quote dog'}, [102]),
        ({100: '100,"an open quote dog', 110: '110,a dog with a 5" tail'}, [102]),
        ({100: '100,"an open quote dog', 110: '110,a tail of 5"'}, [102]),
        ({100: '100,"an open quote dog', 101: '101,a tail of 5"'}, [102]),
        ({100: '100,"an open quote dog', 110: '110,"a quoted dog"'}, [102]),
        ({100: '100,"open', 101: '101,"open', 102: '102,"open'}, [102, 103, 104]),
        ({100: '100,a "dog" in the middle'}, []),
        ({100: '"100,a dog', 110: '110",a dog'}, [102]),
        ({199: '199,"an open quote at the end'}, [201]),
    ],
)
def test_a_quote_that_stands_open_costs_its_own_line_only(tmp_path, changes, bad):
    text = "image_id,caption\n" + "".join(changes.get(n, row) + "\n" for n, row in enumerate(ROWS))
    ids, found = account(write(tmp_path, "a.csv", text))
    assert found == bad
    assert [name.strip('"') for name in ids] == [str(n) for n in range(200) if n + 2 not in bad]


def test_a_line_of_an_open_quote_is_named_with_the_reason(tmp_path):
    path = write(tmp_path, "a.csv", 'image_id,caption\n1,"a dog\n2,a 5"\n3,a cat\n')
    assert plain(path, "csv") == [
        ("line 2", "a cell that holds whole rows, where an open quote takes in the lines below"),
        ("line 3", "2", None, 'a 5"'),
        ("line 4", "3", None, "a cat"),
    ]


@pytest.mark.parametrize("caption", ["two\nlines", "two\nlines, with a comma", "one, two\n\nthree\n, four", "1\n2\n3"])
def test_a_caption_of_several_lines_is_kept(tmp_path, caption):
    path = write(tmp_path, "a.csv", f'image_id,caption\n1,"{caption}"\n2,a cat\n')
    assert plain(path, "csv") == [
        ("line 2", "1", None, caption),
        (f"line {3 + caption.count(chr(10))}", "2", None, "a cat"),
    ]


def test_cells_that_never_end_take_no_more_than_their_lines(tmp_path):
    """Each line closes a cell and opens another, so that all of them are one row."""
    path = write(tmp_path, "a.csv", 'image_id,caption\n1,"a' + '\na","b' * 5000 + "\n")
    ids, bad = account(path)
    assert len(ids) + len(bad) == 5001


def test_a_long_line_is_a_reject(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.text_files.MAX_LINE", 100)
    long = "x" * 350
    path = write(tmp_path, "a.csv", f"image_id,caption\n1,{long}\n2,a cat\n")
    assert [row[:2] for row in plain(path, "csv")] == [("line 2", plain(path, "csv")[0][1]), ("line 3", "2")]
    path = write(tmp_path, "a.jsonl", f'{{"image_id": 1, "caption": "{long}"}}\n{{"image_id": 2, "caption": "a"}}\n')
    rows = plain(path, "jsonl")
    assert rows[0][0] == "line 1"
    assert "a line of more than" in rows[0][1]
    assert rows[1] == ("line 2", "2", None, "a")


CC12M = "http://x/1.jpg\ta dog <PERSON>\nhttp://x/2.jpg\ta cat\n"


def test_conceptual_12m_has_the_url_first(tmp_path):
    path = write(tmp_path, "cc12m.tsv", CC12M)
    assert recognise_captions(path)[0] == "conceptual-12m"
    assert plain(path, "conceptual-12m")[1] == ("line 2", "http://x/2.jpg", None, "a cat")
    assert plain(path, "conceptual-captions") == [
        (f"line {n}", "no URL in column 2, where this format has it") for n in (1, 2)
    ]


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("a dog\thttp://x/1.jpg\tdog,beach\t/m/0,/m/1\t0.9,0.8\n", "conceptual-captions"),
        ("caption\turl\na dog\thttp://x/1.jpg\n", "conceptual-captions"),
        ("Caption\tURL\na dog\thttp://x/1.jpg\n", "conceptual-captions"),
        ("url\tcaption\nhttp://x/1.jpg\ta dog\n", "conceptual-12m"),
        ("a dog, see http://y\thttp://x/1.jpg\n", "conceptual-captions"),
    ],
)
def test_headers_and_machine_labels_of_conceptual_captions(tmp_path, text, format):
    path = write(tmp_path, "a.tsv", text)
    assert recognise_captions(path)[0] == format
    ((_, image_id, _, caption),) = plain(path, format)
    assert image_id == "http://x/1.jpg"
    assert caption.startswith("a dog")


def test_a_list_that_is_too_long_in_parquet_is_a_reject(tmp_path):
    path = tmp_path / "a.parquet"
    long = np.zeros((1 << 22) + 1, np.float32)
    pq.write_table(pa.table({"image_id": ["1", "2"], "caption": [long, np.zeros(2, np.float32)]}), path)
    first, second = read_parquet(path, {})
    assert first == BadRow("row 1", "a line of more than 16,777,216 bytes")
    assert second.position == "row 2"


def test_damaged_parquet_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet"):
        list(captions.read(write(tmp_path, "a.parquet", b"PAR1" + b"x" * 100 + b"PAR1"), "parquet"))


def test_the_tables_of_img2dataset_name_images_by_their_url(tmp_path):
    table = pa.table({
        "url": ["http://a/1.jpg", "http://a/2.jpg"], "caption": ["a dog", "a cat"], "key": ["000000000", "000000001"],
        "status": ["success", "failed_to_download"], "error_message": [None, "404"], "width": [512, None],
        "height": [384, None], "original_width": [800, None], "original_height": [600, None], "exif": ["{}", None],
        "sha256": ["0", None],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "00000.parquet")
    assert [(row.image_id, row.caption) for row in captions.read(tmp_path / "00000.parquet", "parquet")] == [
        ("http://a/1.jpg", "a dog"),
        ("http://a/2.jpg", "a cat"),
    ]


def test_a_column_url_alone_is_no_image_id(tmp_path):
    path = write(tmp_path, "a.csv", "url,caption\nhttp://a/1.jpg,a dog\n")
    with pytest.raises(InputError, match="has no column 'image_id', only url, caption"):
        list(captions.read(path, "csv"))
