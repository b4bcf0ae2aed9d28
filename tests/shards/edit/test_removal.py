"""What is left of a sample."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shards.edit.removal import Removal, take_out
from shards.schema import key_of
from tests.shards.samples import make_sample


@given(st.integers(0, 2), st.sets(st.integers(0, 2)))
def test_the_masks_of_the_captions_that_stay_are_as_they_were(seed, gone):
    sample = make_sample("1", seed)
    captions = [
        type(caption)(str(number), caption.text, caption.graph) for number, caption in enumerate(sample.captions)
    ]
    sample = type(sample)("1", 90, 85, tuple(captions), sample.regions, sample.masks)
    left = take_out(sample, Removal(captions={key_of("1"): frozenset(map(str, gone))}))
    kept = [number for number in range(len(captions)) if number not in gone]
    if not kept:
        assert left is None
        return
    left.masks.check()
    assert [caption.caption_id for caption in left.captions] == [str(number) for number in kept]
    for new, old in enumerate(kept):
        for name in ("token_ids", "segment_ids"):
            a, b = ((m, slice(*m.token_offsets[c : c + 2])) for m, c in ((left.masks, new), (sample.masks, old)))
            assert getattr(a[0], name)[a[1]].tolist() == getattr(b[0], name)[b[1]].tolist()
        for a, b in zip(left.masks.nodes(new), sample.masks.nodes(old), strict=True):
            assert left.masks.tokens(a).tolist() == sample.masks.tokens(b).tolist()
            assert left.masks.node_kind[a] == sample.masks.node_kind[b]
            shift = sample.masks.nodes(old).start - left.masks.nodes(new).start
            arguments = np.where(left.masks.node_args[a] < 0, -1, left.masks.node_args[a] + shift)
            assert arguments.tolist() == sample.masks.node_args[b].tolist()


def test_captions_and_nodes_get_new_numbers():
    sample = make_sample("1", 2)
    sample = replace(sample, captions=tuple(replace(c, caption_id=str(n)) for n, c in enumerate(sample.captions)))
    left = take_out(sample, Removal(captions={"1": frozenset(["1"])}))
    assert left.masks.token_offsets.tolist() == [0, 6, 12]
    assert left.masks.node_caption.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert left.masks.node_args[4:].tolist() == [[-1, -1], [-1, -1], [4, -1], [4, 5]]
    assert left.regions is sample.regions


def test_a_sample_that_does_not_change_is_itself():
    sample = make_sample("1", 2)
    for removal in (Removal(), Removal(images=frozenset(["2"])), Removal(captions={"1": frozenset(["unknown"])})):
        assert take_out(sample, removal) is sample
    assert take_out(sample, Removal(images=frozenset(["1"]))) is None
    assert Removal(frozenset(["1"]), {"2": frozenset(["a"])}).keys == {"1", "2"}
