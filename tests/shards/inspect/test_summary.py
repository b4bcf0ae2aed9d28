"""What is counted in a set."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import shards.inspect.__main__ as inspect
from shards.inspect.summary import Histogram, spread, summarise_set
from shards.reader import ShardSet
from tests.shards.samples import SAMPLES, write_shards


def run(*arguments):
    result = CliRunner().invoke(inspect.app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_summary_counts_what_is_there(folder):
    shards = ShardSet(folder)
    found = summarise_set(shards, 1000, lambda done: None)
    captions = [len(sample.captions) for sample in SAMPLES]
    assert found.captions.counts.tolist() == np.bincount(captions).tolist()
    assert found.tokens.counts.tolist() == [0] * 6 + [sum(captions)]
    assert found.boxes.counts.tolist() == np.bincount([len(s.regions.boxes) for s in SAMPLES]).tolist()
    assert found.images_read == len(SAMPLES)
    assert found.lemmas["object"] == Counter(hat=sum(captions), man=sum(captions))
    assert found.nodes["relation"].counts.tolist() == [0, sum(captions)]
    sizes = [128 + sample.regions.features.nbytes for sample in SAMPLES]
    assert found.feature_bytes == sum(sizes)
    assert found.feature_bytes_per_caption == sum(a * b for a, b in zip(sizes, captions, strict=True))


def test_the_summary_prints_distributions_and_names(folder):
    output = run("summary", folder).output
    for text in ("1 to 3, median 2", "6 to 6, median 6", "hat (", "man (", "red (", "on (", "times as much"):
        assert text in output


@given(st.lists(st.integers(0, 50), min_size=1))
def test_a_histogram_is_that_of_its_numbers(values):
    histogram = Histogram()
    for part in np.array_split(np.array(values), 3):
        histogram.add(part)
    assert histogram.bounds == (min(values), max(values))
    assert histogram.mean == pytest.approx(np.mean(values))
    assert histogram.median == sorted(values)[(len(values) - 1) // 2]
    assert 1 <= len(histogram.bars()) <= 24
    assert histogram.bars()[0] != " "


@given(st.integers(1, 20))
def test_samples_are_spread_over_all_shards(tmp_path_factory, count):
    folder = tmp_path_factory.mktemp("spread")
    shards = ShardSet(write_shards(folder / "a", [SAMPLES[:1], [], SAMPLES[1:5], SAMPLES[5:]]))
    found = spread(shards, count)
    assert len(set(found)) == len(found) == min(count, len(SAMPLES))
    assert set(found) <= set(shards)
    assert found == sorted(found)
