"""How the formats are told apart, and that they hold the same regions."""

import numpy as np
import pytest

from parsers.command import InputError
from pipeline.files import expand
from pipeline.regions.formats import FORMATS, recognise_regions
from tests.pipeline.regions.features import read_all


def test_sources_of_no_known_format_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        expand([tmp_path / "missing"])
    (tmp_path / "a.tsv").write_text("a\tb\n")
    for source in (tmp_path, tmp_path / "a.tsv"):
        with pytest.raises(InputError, match=r"--format \(butd-tsv, ernie-vil-tsv, butd-hdf5, "):
            recognise_regions([source])
    with pytest.raises(InputError, match="no line with the tab-separated columns img_id"):
        FORMATS["butd-tsv"].inspect([tmp_path / "a.tsv"], None)
    (tmp_path / "a.npz").write_text("text")
    with pytest.raises(InputError, match=r"no \.npz or \.npy file with the arrays"):
        FORMATS["vilbert-npz"].inspect([tmp_path], None)


def test_the_published_files_hold_the_same_regions(shared):
    regions = shared / "data" / "regions"
    expected = {row.image_id: row for row in read_all("vilbert-npz", regions / "npz")[1]}
    for format, name, count in (
        ("vilbert-lmdb", "vilbert_20.lmdb", 20),
        ("vilbert-lmdb", "vilbert_multitask_5.lmdb", 5),
        ("vilbert-npz", "npy_vilbert", 5),
    ):
        found = read_all(format, regions / name)[1]
        assert len(found) == count
        for row in found:
            other = expected[row.image_id]
            assert (row.width, row.height) == (other.width, other.height)
            np.testing.assert_array_equal(row.regions.boxes, other.regions.boxes)
            np.testing.assert_array_equal(row.regions.features, other.regions.features)
            if row.regions.class_ids is not None:
                np.testing.assert_array_equal(row.regions.class_ids, other.regions.class_ids)
