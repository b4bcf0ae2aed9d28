"""Samples are read as they were written; sets that are not whole are refused."""

import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from shards.reader import ShardSet
from shards.schema import MASK_DTYPES, key_of
from tests.shards.samples import (
    FEATURES,
    IDS,
    SAMPLES,
    VOCABULARY,
    any_samples,
    assert_equal,
    make_sample,
    write_shards,
)


def test_samples_are_read_as_they_were_written(folder):
    shards = ShardSet(folder)
    assert len(shards) == len(SAMPLES)
    assert shards.vocabulary == VOCABULARY
    assert_equal([shards.sample(*place) for place in shards], SAMPLES)


@settings(max_examples=25)
@given(st.lists(st.lists(any_samples(st.just(FEATURES)), max_size=3), max_size=3))
def test_any_list_of_samples_is_read_as_it_was_written(shards):
    samples = list({sample.image_id: sample for shard in shards for sample in shard}.values())
    first = {sample.image_id for sample in samples[: len(samples) // 2]}
    parts = [[s for s in samples if s.image_id in first], [s for s in samples if s.image_id not in first]]
    with tempfile.TemporaryDirectory() as folder:
        found = ShardSet(write_shards(Path(folder), parts))
        assert len(found) == len(samples)
        assert_equal([found.sample(*place) for place in found], parts[0] + parts[1])
        for place, sample in zip(found, parts[0] + parts[1], strict=True):
            assert found.is_as_written(*place)
            assert found.find(sample.image_id) == place


def test_arrays_are_views_of_the_file(folder):
    shards = ShardSet(folder)
    mapped = np.frombuffer(shards.map(0), np.uint8)
    regions, masks = shards.regions(0, 1), shards.masks(0, 1)
    for array in (
        regions.boxes,
        regions.features,
        regions.class_ids,
        regions.class_probs,
        *map(masks.__getattribute__, MASK_DTYPES),
    ):
        assert np.shares_memory(array, mapped)
        assert not array.flags.writeable


def test_a_sample_without_classes_has_no_class_members(tmp_path):
    shards = ShardSet(write_shards(tmp_path, [[make_sample("1", 1, with_classes=False), make_sample("2", 2)]]))
    assert shards.regions(0, 0).class_ids is None
    assert shards.regions(0, 0).class_probs is None
    assert shards.regions(0, 1).class_ids is not None


@pytest.mark.parametrize("image_id", IDS)
def test_a_sample_is_found_by_image_id_and_by_key(folder, image_id):
    shards = ShardSet(folder)
    assert shards.find(image_id) == shards.find(key_of(image_id))
    assert shards.record(*shards.find(image_id))[0] == image_id


def test_an_unknown_image_is_an_error(folder):
    with pytest.raises(InputError, match="no sample '7'"):
        ShardSet(folder).find("7")


def test_a_missing_shard_is_refused(folder):
    (folder / "shard-00001.tar").unlink()
    with pytest.raises(InputError, match=r"shard-00001\.tar is missing"):
        ShardSet(folder)


def test_a_shard_cut_between_two_samples_is_refused(folder):
    path = folder / "shard-00000.tar"
    end = ShardSet(folder).shard(0).extents[1].sum(1).max()
    path.write_bytes(path.read_bytes()[: -(-end // 512) * 512])
    with tarfile.open(path) as tar:
        assert len(tar.getmembers()) == 12, "a tar reader takes it for a complete one"
    with pytest.raises(InputError, match=r"shard-00000\.tar has .* bytes, the manifest says"):
        ShardSet(folder)


@pytest.mark.parametrize("file", ["index.parquet", "manifest.json"])
def test_a_missing_file_is_refused(folder, file):
    (folder / file).unlink()
    with pytest.raises(InputError, match=file):
        ShardSet(folder)


def test_positions_are_shards_and_rows(tmp_path):
    shards = ShardSet(write_shards(tmp_path / "a", [SAMPLES[:3], SAMPLES[3:5], [], SAMPLES[5:]]))
    assert shards.places(np.array([0, 2, 3, 6])).tolist() == [[0, 0], [0, 2], [1, 0], [3, 1]]
    assert shards.places(np.arange(7)).tolist() == [list(place) for place in shards]
