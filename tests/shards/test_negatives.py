"""False captions in shards: written, read, verified, taken out with their captions."""

from dataclasses import replace

import numpy as np
import pytest

from parsers.command import InputError
from shards.edit.removal import Removal, take_out
from shards.edit.rewrite import write_set
from shards.inspect.diff import compare_sets
from shards.joined import open_sets
from shards.manifest import SCHEMA_VERSION, WITH_NEGATIVES
from shards.members import decode_negative_masks, decode_negatives
from shards.reader import ShardSet
from shards.schema import NEGATIVE_DTYPES, key_of
from shards.storage.errors import ShardError
from tests.shards.samples import SAMPLES, encoded, problems_of, with_negatives, write_shards

WITH = [with_negatives(sample) if number != 3 else sample for number, sample in enumerate(SAMPLES)]


@pytest.fixture
def folder(tmp_path):
    return write_shards(tmp_path / "set", [WITH[:4], WITH[4:]], WITH_NEGATIVES)


def test_what_is_written_is_read_again(folder):
    assert problems_of(folder) == []
    shards = ShardSet(folder)
    assert shards.totals.negatives == sum(len(sample.negatives) for sample in WITH)
    assert shards.totals.captions == sum(len(sample.captions) for sample in WITH)
    for place, sample in zip(shards, WITH, strict=True):
        found = shards.sample(*place)
        assert found.negatives == sample.negatives
        assert encoded(found) == encoded(sample)
        rows = shards.shard(place[0])
        low, high = rows.negative_offsets[place[1] : place[1] + 2]
        assert high - low == len(sample.negatives)
    assert shards.negatives(0, 3) == ()
    with pytest.raises(ShardError, match=r"no member negatives\.npz"):
        shards.negative_masks(0, 3)


@pytest.mark.parametrize("name", ["captions", "kinds", "changed"])
def test_arrays_that_do_not_fit_are_refused(name):
    masks = WITH[0].negative_masks
    for array in (getattr(masks, name)[:-1], np.full_like(getattr(masks, name), 99)):
        with pytest.raises(ValueError, match=r"negatives\.npz"):
            replace(masks, **{name: array}).check(len(WITH[0].captions))
    with pytest.raises(ValueError, match=f"{name} is float64, expected {NEGATIVE_DTYPES[name]}"):
        replace(masks, **{name: getattr(masks, name).astype(float)}).check(3)


def test_damaged_members_are_named():
    members = encoded(WITH[0])
    with pytest.raises(ValueError, match=r"negatives\.npz: captions is not where it belongs"):
        decode_negative_masks(memoryview(members["masks.npz"]))
    with pytest.raises(ValueError, match=r"negatives\.npz ends before token_ids"):
        decode_negative_masks(memoryview(b""))
    with pytest.raises(ValueError, match="not the false captions of a sample"):
        decode_negatives(b'[{"negative_id": 1}]')
    unknown = members["negatives.json"].replace(b"swap_object", b"swap_nothing")
    with pytest.raises(ValueError, match="a kind is unknown"):
        decode_negatives(unknown)


def test_false_captions_leave_with_their_captions():
    sample = next(sample for sample in WITH if len(sample.captions) == 3)
    gone = frozenset((sample.captions[1].caption_id,))
    left = take_out(sample, Removal(captions={key_of(sample.image_id): gone}))
    assert [negative.negative_id for negative in left.negatives] == ["n0", "n1"]
    left.negative_masks.check(2)
    numbers = frozenset(caption.caption_id for caption in sample.captions[:1])
    left = take_out(sample, Removal(captions={key_of(sample.image_id): numbers}))
    assert [(negative.negative_id, negative.caption) for negative in left.negatives] == [("n2", 0)]
    assert left.negative_masks.captions.tolist() == [0]
    left.negative_masks.check(2)


def test_an_edited_set_keeps_its_false_captions(folder, tmp_path):
    shards = ShardSet(folder)
    out = tmp_path / "less"
    manifest = write_set(out, [(shards, Removal(images=frozenset((key_of(WITH[0].image_id),))))])
    assert manifest.schema_version == WITH_NEGATIVES
    assert problems_of(out) == []
    assert manifest.totals.negatives == sum(len(sample.negatives) for sample in WITH[1:])


def test_sets_with_and_without_can_be_read_but_not_written_as_one(folder, tmp_path):
    plain = write_shards(tmp_path / "plain", [SAMPLES], SCHEMA_VERSION)
    joined = open_sets([str(folder), str(plain)])
    assert joined.totals.negatives == ShardSet(folder).totals.negatives
    assert len(joined.shard(2).negative_kinds) == 0
    assert joined.negative_masks(1, 0).kinds.tolist() == WITH[4].negative_masks.kinds.tolist()
    with pytest.raises(InputError, match="schema_version"):
        write_set(tmp_path / "out", [(ShardSet(folder), Removal()), (ShardSet(plain), Removal())])


def test_false_captions_that_differ_are_named(folder, tmp_path):
    changed = [replace(WITH[0], negatives=(replace(WITH[0].negatives[0], negative_id="x"), *WITH[0].negatives[1:]))]
    other = write_shards(tmp_path / "other", [[*changed, *WITH[1:4]], WITH[4:]], WITH_NEGATIVES)
    difference = compare_sets(ShardSet(folder), ShardSet(other), lambda _: None)
    assert difference.changed == {"false captions": [key_of(WITH[0].image_id)]}


def test_an_index_that_differs_from_the_false_captions_is_a_problem(tmp_path):
    kinds = WITH[0].negative_masks.kinds + np.uint8(1)
    damaged = replace(WITH[0], negative_masks=replace(WITH[0].negative_masks, kinds=kinds))
    folder = write_shards(tmp_path / "set", [[damaged]], WITH_NEGATIVES)
    (problem,) = problems_of(folder)
    assert "false captions, their word pieces and the index differ" in problem.what
