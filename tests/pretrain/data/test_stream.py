from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from pretrain.data.epochs import Epochs
from pretrain.data.stream import SampleStream


@pytest.fixture
def stream(shards):
    """37 samples in shards of 7, 1, 12, 5, 9 and 3."""
    return SampleStream(shards, Epochs([len(shards)], [Fraction(1)], 4), seed=0, block_shards=2)


def test_a_block_holds_whole_shards(stream, shards):
    bounds = stream.bounds(0)
    assert (bounds[0], bounds[-1], len(bounds)) == (0, 37, 4)
    for start, end in pairwise(bounds.tolist()):
        found = stream.read(0, start, end)
        whole = sum(shards.samples[shard] for shard in set(found[:, 1].tolist()))
        assert len(found) == len(np.unique(found, axis=0)) == whole


def test_any_part_can_be_read_alone(stream):
    whole = stream.read(1, 0, 37)
    for start, end in ((0, 0), (3, 4), (5, 30), (36, 37)):
        assert stream.read(1, start, end).tolist() == whole[start:end].tolist()
