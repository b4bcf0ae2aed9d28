"""What nearly repeats in a corpus, and what it shares with a benchmark, as tables."""

import pyarrow as pa

from pipeline.duplicates.corpus import GROUPS, MATCHES, Corpus, count_groups

CAPTION = "a brown dog runs after a yellow ball on the wet beach"
ROWS = [
    ("1", "a", CAPTION),
    ("1", "b", CAPTION + " today"),
    ("2", "c", "two cats"),
    ("3", "d", "A brown dog runs after a yellow ball on the wet beach."),
    ("4", "e", "three birds on a wire"),
    ("4", "f", "three birds on a wire"),
    ("5", None, "Two cats!"),
    ("6", "h", ""),
]


def corpus(rows, size=3):
    columns = dict(zip(("image_id", "caption_id", "caption"), map(list, zip(*rows, strict=True)), strict=True))
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return Corpus.read("captions", lambda: table.to_batches(size))


def test_groups_are_of_several_images_and_in_order():
    table = corpus(ROWS).tabulate_groups()
    assert table.schema == GROUPS
    rows = [(row["group"], row["image_id"], row["caption_id"], row["caption"]) for row in table.to_pylist()]
    assert rows == [(group, *ROWS[row]) for group, row in [(0, 0), (0, 1), (0, 3), (1, 2), (1, 6)]]
    counts = count_groups(table)
    assert counts == {"captions that nearly repeat others": 5, "groups of such captions": 2}


def test_a_corpus_without_rows_has_no_groups_and_no_matches():
    empty = Corpus.read("captions", lambda: iter([]))
    assert empty.tabulate_groups() == GROUPS.empty_table()
    assert empty.tabulate_matches(corpus(ROWS)) == MATCHES.empty_table()
    assert corpus(ROWS).tabulate_matches(empty) == MATCHES.empty_table()


def test_each_row_that_a_benchmark_has_is_listed_with_the_closest_of_it():
    benchmark = corpus([("x", None, "nothing of the kind"), ("y", None, CAPTION + " now"), ("z", "7", CAPTION)])
    table = corpus(ROWS).tabulate_matches(benchmark)
    assert table.schema == MATCHES
    found = {(row["image_id"], row["caption_id"]): row for row in table.to_pylist()}
    assert list(found) == [("1", "a"), ("1", "b"), ("3", "d")]
    assert {row["benchmark_image_id"] for row in found.values()} == {"z"}
    assert found["1", "a"]["similarity"] == found["3", "d"]["similarity"] == 1
    assert found["1", "b"]["benchmark_caption"] == CAPTION
    assert 0.7 <= found["1", "b"]["similarity"] < 1
