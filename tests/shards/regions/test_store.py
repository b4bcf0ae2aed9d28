"""Regions by image id, from the tables that the stages write."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.command import InputError
from pipeline.regions.rows import NO_CLASSES
from shards.regions.store import RegionStore
from shards.regions.table import RegionsInfo, RegionsRow, write_regions
from shards.schema import Regions


def write_folder(folder, images, features=3, parts=2):
    """Images by id; the features of an image are its number."""
    folder.mkdir()
    for part in range(parts):
        rows = [
            RegionsRow(
                image_id,
                100 + number,
                100,
                Regions(
                    np.full((1 + number % 3, 4), [0, 0, number + 1, 5], np.float32),
                    np.full((1 + number % 3, features), number, np.float16),
                    np.zeros((1 + number % 3, 1), np.int16),
                    np.ones((1 + number % 3, 1), np.float16),
                ),
            )
            for number, image_id in list(enumerate(images))[part::parts]
        ]
        with (folder / f"part-{part:05d}.parquet").open("wb") as stream:
            write_regions(stream, rows, RegionsInfo(features, NO_CLASSES, None))
    (folder / "report.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """More images than a row group holds, in two parts."""
    return write_folder(tmp_path_factory.mktemp("regions") / "a", [f"image {i}" for i in range(200)])


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
@given(order=st.lists(st.integers(0, 199), max_size=12))
def test_any_image_is_found_in_any_order(folder, cache_bytes, order):
    store = pickle.loads(pickle.dumps(RegionStore([folder], cache_bytes=cache_bytes)))
    assert (len(store), store.feature_size) == (200, 3)
    for number in order:
        row = store[f"image {number}"]
        assert (row.image_id, row.width, row.height) == (f"image {number}", 100 + number, 100)
        assert (row.regions.features == number).all()
        assert row.regions.boxes.tolist() == [[0, 0, number + 1, 5]] * (1 + number % 3)
        assert row.regions.class_ids is None


def test_folders_are_one_store_if_they_fit_each_other(tmp_path, folder):
    other = write_folder(tmp_path / "b", ["x", "y"], parts=1)
    store = RegionStore([folder, other])
    assert len(store) == 202
    assert "x" in store
    assert "z" not in store
    assert store["y"].width == 101
    with pytest.raises(KeyError):
        store["z"]
    with pytest.raises(InputError, match="'x' has regions twice"):
        RegionStore([other, other])
    with pytest.raises(InputError, match="features of size 4, the regions before it 3"):
        RegionStore([other, write_folder(tmp_path / "c", ["z"], features=4)])


def test_a_damaged_part_is_named(tmp_path):
    damaged = write_folder(tmp_path / "d", [f"{i}" for i in range(40)], parts=1)
    store = RegionStore([damaged])
    path = damaged / "part-00000.parquet"
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"part-00000\.parquet: cannot be read"):
        store["3"]
