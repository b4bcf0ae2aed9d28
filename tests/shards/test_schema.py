"""Keys of samples, and which regions and masks are refused."""

import re

import numpy as np
import pytest
from hypothesis import given

from shards.schema import MASK_DTYPES, Masks, Regions, image_id_of_key, key_of
from tests.shards.samples import ANY_TEXT


@given(ANY_TEXT.filter(bool))
def test_a_key_gives_its_image_id_back_and_is_safe_in_a_tar(image_id):
    key = key_of(image_id)
    assert re.fullmatch(r"[A-Za-z0-9_%-]+", key)
    assert image_id_of_key(key) == image_id


@given(ANY_TEXT.filter(bool), ANY_TEXT.filter(bool))
def test_two_images_never_share_a_key(a, b):
    assert (key_of(a) == key_of(b)) == (a == b)


@pytest.mark.parametrize(
    ("image_id", "key"),
    [
        ("COCO_val2014_000000285-a", "COCO_val2014_000000285-a"),
        ("a.b/c~d", "a%2Eb%2Fc%7Ed"),
        ("100%", "100%25"),
        ("é🚒", "%C3%A9%F0%9F%9A%92"),
    ],
)
def test_every_byte_outside_the_plain_ones_is_escaped(image_id, key):
    assert key_of(image_id) == key


@pytest.mark.parametrize(
    "key",
    ["a.b", "a/b", "a b", "%C3", "", "%zz", "%2d", "%41"],
)
def test_text_that_is_no_key_is_refused(key):
    with pytest.raises(ValueError):
        image_id_of_key(key)


BOXES = np.array([[0, 0, 4, 4], [1, 1, 10, 8]], np.float32)


FEATURES = np.zeros((2, 3), np.float16)


IDS = np.array([[1, 2], [3, 4]], np.int16)


PROBS = np.array([[0.5, 0.25], [0.75, 0.25]], np.float16)


NOTHING = np.zeros((0, 4), np.float32)


def changed(array, value, *where):
    array = array.copy()
    array[where] = value
    return array


def test_sound_regions_pass():
    Regions(BOXES, FEATURES, IDS, PROBS).check(10, 8)
    Regions(BOXES, FEATURES, None, None).check(10, 8)
    Regions(changed(changed(BOXES, 11, 1, 2), -1, 0, 0), FEATURES, IDS, PROBS).check(10, 8)
    Regions(np.tile(BOXES, (50, 1)), np.tile(FEATURES, (50, 1)), None, None).check(10, 8)


@pytest.mark.parametrize(
    ("regions", "size", "reason"),
    [
        pytest.param(Regions(NOTHING, FEATURES[:0], None, None), (10, 8), "0 boxes", id="no boxes"),
        pytest.param(Regions(np.tile(BOXES, (51, 1)), FEATURES, None, None), (10, 8), "102 boxes", id="102 boxes"),
        pytest.param(Regions(BOXES, FEATURES[:1], None, None), (10, 8), "do not fit", id="too few features"),
        pytest.param(Regions(BOXES, FEATURES[0], None, None), (10, 8), "do not fit", id="flat features"),
        pytest.param(Regions(BOXES[:, :3], FEATURES, None, None), (10, 8), "four numbers", id="three coordinates"),
        pytest.param(Regions(changed(BOXES, np.nan, 0, 0), FEATURES, None, None), (10, 8), "NaN", id="NaN in a box"),
        pytest.param(Regions(changed(BOXES, np.inf, 0, 2), FEATURES, None, None), (10, 8), "inf", id="infinite box"),
        pytest.param(Regions(BOXES, changed(FEATURES, np.nan, 0, 0), None, None), (10, 8), "NaN", id="NaN feature"),
        pytest.param(Regions(BOXES, changed(FEATURES, np.inf, 1, 1), None, None), (10, 8), "inf", id="inf feature"),
        pytest.param(Regions(changed(BOXES, 0, 0, 2), FEATURES, None, None), (10, 8), "empty box", id="no width"),
        pytest.param(Regions(changed(BOXES, 1, 1, 3), FEATURES, None, None), (10, 8), "empty box", id="no height"),
        pytest.param(Regions(BOXES, FEATURES, None, None), (10, 6), "outside", id="below the image"),
        pytest.param(Regions(BOXES, FEATURES, None, None), (8, 8), "outside", id="right of the image"),
        pytest.param(Regions(changed(BOXES, -1.5, 0, 1), FEATURES, None, None), (10, 8), "outside", id="above it"),
        pytest.param(Regions(BOXES, FEATURES, None, None), (0, 8), "not positive", id="image without width"),
        pytest.param(Regions(BOXES, FEATURES, None, None), (10, -8), "not positive", id="negative height"),
        pytest.param(Regions(BOXES, FEATURES, IDS, None), (10, 8), "together", id="ids alone"),
        pytest.param(Regions(BOXES, FEATURES, None, PROBS), (10, 8), "together", id="probabilities alone"),
        pytest.param(Regions(BOXES, FEATURES, IDS[:, :1], PROBS), (10, 8), "do not fit", id="other k"),
        pytest.param(Regions(BOXES, FEATURES, IDS[:1], PROBS[:1]), (10, 8), "do not fit", id="too few class rows"),
        pytest.param(Regions(BOXES, FEATURES, IDS[:, 0], PROBS[:, 0]), (10, 8), "do not fit", id="flat classes"),
        pytest.param(Regions(BOXES, FEATURES, changed(IDS, -1, 0, 0), PROBS), (10, 8), "negative class", id="id -1"),
        pytest.param(Regions(BOXES, FEATURES, IDS, changed(PROBS, -0.1, 0, 0)), (10, 8), "negative", id="negative"),
        pytest.param(Regions(BOXES, FEATURES, IDS, changed(PROBS, np.nan, 0, 0)), (10, 8), "finite", id="NaN prob"),
        pytest.param(Regions(BOXES, FEATURES, IDS, changed(PROBS, 0.6, 1, 1)), (10, 8), "1.001", id="sum above 1"),
    ],
)
def test_unsound_regions_are_refused_with_the_reason(regions, size, reason):
    with pytest.raises(ValueError, match=reason):
        regions.check(*size)


def sound_masks():
    arrays = {
        "token_ids": [7, 8, 9, 10],
        "segment_ids": [0] * 4,
        "token_offsets": [0, 3, 4],
        "node_kind": [0, 0, 1, 2, 0],
        "node_caption": [0, 0, 0, 0, 1],
        "node_args": [(-1, -1), (-1, -1), (0, -1), (0, 1), (-1, -1)],
        "node_tokens": [0, 1, 2, 0],
        "node_token_offsets": [0, 1, 2, 3, 3, 4],
    }
    return {name: np.array(arrays[name], dtype) for name, dtype in MASK_DTYPES.items()}


def test_a_node_has_its_own_pieces():
    masks = Masks(**sound_masks())
    masks.check()
    assert masks.nodes(0) == range(4)
    assert masks.nodes(1) == range(4, 5)
    assert [masks.tokens(node).tolist() for node in range(5)] == [[0], [1], [2], [], [0]]


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("token_offsets", 1, (0,)),
        ("token_offsets", 5, (2,)),
        ("token_offsets", 9, (1,)),
        ("node_token_offsets", 3, (5,)),
        ("node_token_offsets", 4, (1,)),
        ("node_kind", 3, (0,)),
        ("node_kind", 1, (0,)),
        ("node_caption", 2, (4,)),
        ("node_caption", 1, (0,)),
        ("node_args", 9, (2, 0)),
        ("node_args", 4, (2, 0)),
        ("node_args", -1, (3, 1)),
        ("node_tokens", 3, (0,)),
        ("node_tokens", -1, (0,)),
        ("node_tokens", 1, (3,)),
    ],
)
def test_masks_that_do_not_fit_are_refused(name, value, where):
    arrays = sound_masks()
    arrays[name][where] = value
    with pytest.raises(ValueError, match=r"masks\.npz"):
        Masks(**arrays).check()


@pytest.mark.parametrize("name", list(MASK_DTYPES))
def test_masks_of_another_type_or_length_are_refused(name):
    arrays = sound_masks()
    with pytest.raises(ValueError, match=name):
        Masks(**{**arrays, name: arrays[name].astype(np.int64)}).check()
    with pytest.raises(ValueError, match=r"masks\.npz"):
        Masks(**{**arrays, name: arrays[name][:-1]}).check()
