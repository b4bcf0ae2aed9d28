"""Parquet files on a disk and in a store."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from parsers.command import InputError
from shards.storage.files import NewFile
from shards.storage.parquet import parquet_file, write_table


@pytest.mark.parametrize("place", ["disk", "memory"])
@pytest.mark.parametrize(("group_rows", "group_bytes", "groups"), [(4, 1 << 20, 3), (100, 40, 2), (100, 1 << 20, 1)])
def test_a_table_is_read_as_it_was_written_in_groups_of_bounded_size(tmp_path, place, group_rows, group_bytes, groups):
    path = (tmp_path if place == "disk" else UPath(f"memory://{tmp_path.name}")) / "a.parquet"
    table = pa.table({"a": pa.array(range(10), pa.int64())})
    file = NewFile(path)
    write_table(file.stream, table, {"version": "1"}, group_rows=group_rows, group_bytes=group_bytes)
    file.flush()
    file.publish()
    found = parquet_file(path)
    assert found.num_row_groups == groups
    assert found.schema_arrow.metadata[b"version"] == b"1"
    assert found.read().replace_schema_metadata(None).equals(table)


def sample_file(path):
    table = pa.table(
        {
            "image_id": [f"img{i}" for i in range(40)],
            "width": pa.array(range(40), pa.int32()),
            "features": [bytes([i]) * 20 for i in range(40)],
        }
    )
    with path.open("wb") as stream:
        write_table(stream, table, {"version": "1", "classes": '["a"]'}, group_rows=20, group_bytes=1 << 20)
    return path


def content(path):
    file = parquet_file(path)
    return file.schema_arrow.metadata, file.read().to_pylist()


def test_a_flipped_bit_anywhere_is_found_or_changes_nothing(tmp_path):
    path = sample_file(tmp_path / "part.parquet")
    data, before = path.read_bytes(), content(path)
    found = 0
    for bit in range(0, 8 * len(data), 31):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert content(path) == before, f"bit {bit} gives other rows"
        except InputError:
            found += 1
    assert found > len(data) // 31 * 8 * 0.8


@pytest.mark.parametrize("size", [0, 5, 11, 300, -1])
def test_a_cut_file_is_refused_by_name(tmp_path, size):
    path = sample_file(tmp_path / "part.parquet")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"part\.parquet: cannot be read as Parquet"):
        parquet_file(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    for path in (tmp_path / "missing.parquet", tmp_path):
        with pytest.raises(InputError, match="cannot be read as Parquet"):
            parquet_file(path)


def test_files_of_others_need_no_checksums(tmp_path):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1, 2]}), path)
    assert parquet_file(path).read()["a"].to_pylist() == [1, 2]


def test_the_footer_may_be_larger_than_what_is_read_first(tmp_path):
    path = tmp_path / "large.parquet"
    names = {"names": "x" * 300_000}
    with path.open("wb") as stream:
        write_table(stream, pa.table({"a": [1, 2]}), names, group_rows=1, group_bytes=1 << 20)
    assert parquet_file(path).schema_arrow.metadata[b"names"] == names["names"].encode()
