"""What is asked of every cache."""

import numpy as np

from shards.reader import ShardSet
from tests.shards.samples import VOCABULARY


def size_of(folder):
    """Bytes of tars in a cache, unfinished ones included."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".tar", ".partial"))


def assert_reads_as(url, local, cache):
    """A remote set has the content of a local one, and the cache stays within its limit while it is read."""
    remote, expected = ShardSet(url, cache), ShardSet(local)
    assert remote.manifest == expected.manifest
    assert remote.vocabulary == VOCABULARY
    for place in np.random.default_rng(0).permutation(list(expected)).tolist():
        assert remote.record(*place) == expected.record(*place)
        np.testing.assert_array_equal(remote.regions(*place).features, expected.regions(*place).features, strict=True)
        assert size_of(cache.folder) <= cache.limit
