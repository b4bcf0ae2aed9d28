"""What the manifest says of a set, and which manifests are refused."""

import json
from pathlib import Path

import pytest

from parsers.command import InputError
from shards.manifest import DetectorInfo, Manifest, Totals
from shards.reader import ShardSet
from tests.shards.samples import SAMPLES, write_shards


def test_totals_count_everything(folder):
    captions = sum(len(sample.captions) for sample in SAMPLES)
    assert ShardSet(folder).manifest.totals == Totals(
        samples=len(SAMPLES),
        captions=captions,
        boxes=sum(len(sample.regions.boxes) for sample in SAMPLES),
        tokens=6 * captions,
        objects=2 * captions,
        attributes=captions,
        relations=captions,
    )


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_another_schema_version_is_refused_with_what_to_do(folder, version):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": version}))
    with pytest.raises(InputError, match=r"schema version.*pipeline\.pack"):
        ShardSet(folder)


def test_a_set_of_an_earlier_release_has_no_detector_and_keeps_its_checksum(folder):
    before = ShardSet(folder).manifest
    assert before.detector is None
    assert b'"detector"' not in before.to_bytes()
    known = before.model_copy(update={"detector": DetectorInfo(name="vg-bottom-up", options={"preset": "flickr"})})
    assert Manifest.from_bytes(known.to_bytes(), "m") == known
    assert known.checksum != before.checksum
    assert not before.differences(known), "sets are trained on together although one does not name its detector"


def test_the_folder_above_the_splits_is_refused_with_their_names(tmp_path):
    for split in ("train", "val"):
        write_shards(tmp_path / split, [SAMPLES])
    with pytest.raises(InputError, match="train, val"):
        ShardSet(tmp_path)


def test_no_folder_is_refused():
    with pytest.raises(InputError, match="no such folder"):
        ShardSet(Path("no/such/folder"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"schema_version": 1}', b"\xff"])
def test_a_manifest_that_is_none_is_refused_with_its_path(content):
    with pytest.raises(InputError, match=r"data/manifest\.json"):
        Manifest.from_bytes(content, "data/manifest.json")
