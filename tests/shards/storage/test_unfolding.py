"""Parquet that unfolds to gigabytes is refused before it does, by every way to read it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsers.command import InputError
from shards.storage.parquet import parquet_file
from shards.storage.unfolding import MAX_BYTES, MAX_TIMES, check_unfolding
from tests.bombs import read_in_a_process, repeat, write_repeated

LONG = "a" * 10**6


def lists(values):
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


BOMBS = {
    "a text that a dictionary repeats": (lambda: pa.table({"a": repeat(LONG, 5000)}), 1),
    "bytes that a dictionary repeats": (lambda: pa.table({"a": repeat(LONG.encode(), 5000)}), 1),
    "a text in a list": (lambda: pa.table({"a": lists(repeat(LONG, 5000))}), 1),
    "a text in a record": (lambda: pa.table({"a": pa.StructArray.from_arrays([repeat(LONG, 5000)], ["b"])}), 1),
    "zeros": (lambda: pa.table({"a": pa.array([bytes(3 * 10**8)])}), 1),
    "a list without end": (lambda: pa.table({"a": lists(pa.array(np.zeros(7 * 10**7, np.float32)))}), 1),
    "rows without end": (lambda: pa.table({"a": pa.nulls(10**7, pa.string())}), 7),
    "fixed bytes": (lambda: pa.table({"a": pa.array([bytes(10**6)] * 270, pa.binary(10**6))}), 1),
}
IMPORT = "from shards.storage.parquet import parquet_file"
READS = (
    "parquet_file(path).read()",
    "parquet_file(path).read_row_group(0)",
    "[None for _ in parquet_file(path).iter_batches(4096)]",
)


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs")
    return {
        name: write_repeated(folder / f"{number}.parquet", make(), times)
        for number, (name, (make, times)) in enumerate(BOMBS.items())
    }


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_one_error_whichever_way_it_is_read(bombs, bomb):
    path = bombs[bomb]
    assert path.stat().st_size < 2_000_000
    said = read_in_a_process(path, IMPORT, *READS)
    assert len(said) == len(READS)
    assert all(line.startswith(f"{path}: ") and " unfold to " in line for line in said)


def test_texts_that_repeat_are_read_if_they_unfold_to_little(tmp_path):
    """The footer alone would have it that every row is as long as the longest: 3 GB."""
    long = ["b" * 300_000, *(f"a{i % 100}" for i in range(9_999))]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": long, "b": [[text] for text in long]}), path)
    assert parquet_file(path).read().to_pydict() == {"a": long, "b": [[text] for text in long]}
    assert [text for batch in parquet_file(path).iter_batches(4096) for text in batch["a"].to_pylist()] == long


def test_batches_cross_row_groups_as_before(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(100)}), path, row_group_size=7)
    found = [len(batch) for batch in parquet_file(path).iter_batches(30, row_groups=range(10))]
    assert found == [len(batch) for batch in pq.ParquetFile(path).iter_batches(30, row_groups=range(10))]
    assert sum(found) == 70


def test_a_large_file_may_unfold_to_as_many_times_its_size(tmp_path):
    check_unfolding(tmp_path, MAX_BYTES, 0)
    check_unfolding(tmp_path, MAX_TIMES * MAX_BYTES, MAX_BYTES)
    with pytest.raises(InputError, match="1,000 bytes of it unfold to 268,435,457 or more, and at most 268,435,456"):
        check_unfolding(tmp_path, MAX_BYTES + 1, 1000)
