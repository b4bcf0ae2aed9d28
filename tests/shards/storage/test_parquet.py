"""Parquet files on a disk and in a store."""

import pyarrow as pa
import pytest
from upath import UPath

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
