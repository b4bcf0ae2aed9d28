"""Several sets read as one."""

import json
from pathlib import Path

import pytest

from parsers.command import InputError
from shards.joined import JoinedSet, open_sets
from shards.reader import ShardSet
from shards.schema import key_of
from tests.shards.samples import SAMPLES, make_sample, manifest_of, write_shards


@pytest.fixture
def folders(tmp_path):
    return [
        str(write_shards(tmp_path / "a", [SAMPLES[:2], SAMPLES[2:3]])),
        str(write_shards(tmp_path / "b", [SAMPLES[3:]])),
    ]


def change(folder, **settings):
    (Path(folder) / "manifest.json").write_text(json.dumps(manifest_of(Path(folder)) | settings))


def test_the_samples_of_all_sets_follow_each_other(folders):
    joined = open_sets(folders)
    assert len(joined) == len(SAMPLES)
    assert [joined.record(*place)[0] for place in joined] == [sample.image_id for sample in SAMPLES]
    assert joined.samples.tolist() == [2, 1, len(SAMPLES) - 3]
    assert joined.vocabulary == ShardSet(folders[0]).vocabulary
    for number, (shard, row) in enumerate(joined):
        sample = SAMPLES[number]
        assert (joined.regions(shard, row).features == sample.regions.features).all()
        assert (joined.masks(shard, row).token_ids == sample.masks.token_ids).all()
        assert joined.shard(shard).keys[row] == key_of(sample.image_id)
    totals = [ShardSet(folder).totals for folder in folders]
    assert joined.totals == totals[0] + totals[1]
    assert joined.location == ", ".join(folders)
    assert (joined.feature_size, joined.classes) == (ShardSet(folders[0]).feature_size, ShardSet(folders[0]).classes)


def test_one_set_is_itself(folders):
    assert type(open_sets(folders[:1])) is ShardSet


def test_the_checksum_covers_all_manifests_and_their_order(folders):
    found = {open_sets(order).checksum for order in (folders, folders[::-1], folders[:1], folders[1:])}
    assert len(found) == 4
    before = open_sets(folders).checksum
    assert open_sets(folders).checksum == before
    change(folders[1], parser={"name": "other", "version": "2"})
    assert open_sets(folders).checksum != before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer", {"sha256": "0" * 64, "size": 10}),
        ("feature_size", 99),
        ("classes", {"kind": "argmax", "count": 6, "background": 0, "names": None}),
    ],
)
def test_sets_that_differ_are_refused_with_both_names_and_the_key(folders, key, value):
    change(folders[1], **{key: value})
    with pytest.raises(InputError) as error:
        open_sets(folders)
    assert all(name in str(error.value) for name in (*folders, f"they differ in: {key} "))


def test_the_parser_may_differ(folders):
    change(folders[1], parser={"name": "other", "version": "2"})
    assert len(open_sets(folders)) == len(SAMPLES)


def test_the_same_set_twice_is_refused(folders):
    with pytest.raises(InputError, match=r"are the same set.*passes"):
        open_sets([folders[0], folders[1], folders[0]])


def test_three_sets(folders, tmp_path):
    third = write_shards(tmp_path / "c", [[make_sample("new", 9)]])
    joined = JoinedSet([ShardSet(folder) for folder in (*folders, third)])
    assert joined.record(3, 0)[0] == "new"
    assert [len(one) for one in joined.sets] == [3, len(SAMPLES) - 3, 1]
