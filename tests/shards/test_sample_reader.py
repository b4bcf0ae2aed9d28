"""What training asks of shards."""

import numpy as np
import pytest

from shards.joined import JoinedSet
from shards.reader import ShardSet
from shards.sample_reader import SampleReader, each_place
from tests.shards.samples import SAMPLES, make_sample, write_shards


def test_places_are_in_stored_order():
    assert list(each_place(np.array([2, 0, 1]))) == [(0, 0), (0, 1), (2, 0)]
    assert list(each_place(np.zeros(0, np.int64))) == []


@pytest.mark.parametrize("kind", ["one", "several"])
def test_every_question_of_the_protocol_has_an_answer(folder, tmp_path, kind):
    shards = ShardSet(folder)
    if kind == "several":
        shards = JoinedSet([shards, ShardSet(write_shards(tmp_path / "other", [[make_sample("7", 1)]]))])
    asked = {name for name, value in vars(SampleReader).items() if not name.startswith("_") and value is not None}
    assert asked <= set(dir(shards))
    assert len(shards) == shards.samples.sum() == shards.totals.samples == sum(map(len, shards.sets))
    place = list(shards)[2]
    assert shards.record(*place).image_id == SAMPLES[2].image_id
    assert len(shards.regions(*place).features) == shards.shard(place[0]).num_boxes[place[1]]
    assert shards.regions(*place).features.shape[1] == shards.feature_size
    assert shards.tokenizer.size == len(shards.vocabulary)
