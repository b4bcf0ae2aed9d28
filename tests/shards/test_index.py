"""Where the index says that samples lie."""

import tarfile

import numpy as np
import pyarrow as pa
import pytest

from parsers.command import InputError
from shards import index
from shards.reader import ShardSet
from shards.schema import MEMBERS, NEGATIVE_MEMBERS, key_of
from tests.shards.samples import SAMPLES, write_shards


def test_the_index_counts_boxes_and_pieces(folder):
    shards = ShardSet(folder)
    found = [(shards.shard(shard).keys[row], shards.shard(shard).num_boxes[row]) for shard, row in shards]
    assert found == [(key_of(sample.image_id), len(sample.regions.boxes)) for sample in SAMPLES]
    for number, samples in enumerate((SAMPLES[:4], SAMPLES[4:])):
        rows = shards.shard(number)
        assert rows.tokens.tolist() == [6] * sum(len(sample.captions) for sample in samples)
        assert np.diff(rows.caption_offsets).tolist() == [len(sample.captions) for sample in samples]


def test_the_index_points_at_the_bytes_that_tarfile_finds(folder):
    shards = ShardSet(folder)
    for number, info in enumerate(shards.manifest.shards):
        with tarfile.open(folder / info.file) as tar:
            members = [(entry.offset_data, entry.size) for entry in tar]
            assert all(entry.mtime == 0 for entry in tar)
        extents = shards.shard(number).extents.reshape(-1, 2).tolist()
        assert members == [tuple(extent) for extent in extents if extent[0] >= 0]


def test_a_changed_index_is_refused(folder, tmp_path):
    other = write_shards(tmp_path / "other", [SAMPLES[:3], SAMPLES[3:]])
    (folder / "index.parquet").write_bytes((other / "index.parquet").read_bytes())
    with pytest.raises(InputError, match=r"index\.parquet is not the index"):
        ShardSet(folder)


def test_the_index_of_many_shards_is_several_files(folder):
    manifest = ShardSet(folder).manifest
    many = manifest.model_copy(update={"shards": manifest.shards * 300, "index_sha256": ["a", "b", "c"]})
    found = [(file.name, file.sha256, file.first, file.shards) for file in index.files_of(many)]
    assert found == [
        ("index-00000.parquet", "a", 0, 256),
        ("index-00001.parquet", "b", 256, 256),
        ("index-00002.parquet", "c", 512, 88),
    ]


def test_the_rows_of_a_tar_are_found_from_its_content(folder):
    path = folder / "shard-00000.tar"
    with path.open("rb") as stream:
        rows = index.rows_of_tar(memoryview(path.read_bytes()), stream)
    table, expected = index.to_table(rows), ShardSet(folder).index_table(0)
    assert table.select(index.SCHEMA.names).equals(expected)
    assert rows[0].extents.keys() == set(MEMBERS) - set(NEGATIVE_MEMBERS)
    assert all(offset % 512 == 0 for offset, _ in rows[0].extents.values())


def test_keys_that_occur_twice_are_found():
    assert index.repeated(pa.chunked_array([["a", "b"], ["b", "c", "a"]])) == ["a", "b"]
    assert index.repeated(pa.chunked_array([["a", "b"]])) == []
