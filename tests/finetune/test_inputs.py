"""Texts in word pieces, images in regions, and batches of both."""

import numpy as np
import pytest
import torch

from finetune.inputs import ImageRows, JoinedRegions, Sources, TaskBatch, TextEncoder, move_inputs
from parsers.command import InputError
from shards.regions.store import RegionStore
from shards.regions.table import RegionsRow
from shards.schema import Regions
from shards.vocabulary import load_tokenizer
from tests.finetune.worlds import FEATURES, PIECES, grid, regions_folder, write_model


@pytest.fixture
def texts(tmp_path):
    return TextEncoder(load_tokenizer(write_model(tmp_path / "model") / "vocab.txt"))


@pytest.fixture
def store(tmp_path):
    return RegionStore([regions_folder(tmp_path / "regions", {"1": grid(2), "2": grid(3)})])


def pieces(ids):
    return [PIECES[number] for number in ids]


def test_a_text_has_special_tokens_around_it_and_is_cut_at_the_end(texts):
    encoded = texts.encode("the red thing", 5)
    assert pieces(encoded.token_ids) == ["[CLS]", "the", "red", "thing", "[SEP]"]
    assert encoded.segment_ids.tolist() == [0] * 5
    assert pieces(texts.encode("the red thing", 4).token_ids) == ["[CLS]", "the", "red", "[SEP]"]


def test_a_special_token_in_a_text_is_plain_text(texts):
    assert texts.sep not in texts.tokenize("the [SEP] thing")


def test_a_pair_has_two_segments(texts):
    pair = texts.encode_pair(texts.tokenize("the dog"), texts.tokenize("red"))
    assert pieces(pair.token_ids) == ["[CLS]", "the", "dog", "[SEP]", "red", "[SEP]"]
    assert pair.segment_ids.tolist() == [0, 0, 0, 0, 1, 1]


def test_the_whole_image_is_the_mean_of_its_regions():
    boxes = np.array([[0, 0, 50, 100], [50, 25, 100, 75]], np.float32)
    row = RegionsRow("1", 100, 200, Regions(boxes, np.array([[1, 2], [3, 6]], np.float16), None, None))
    image = ImageRows.from_regions(row)
    np.testing.assert_array_equal(image.features, [[2, 4], [1, 2], [3, 6]])
    np.testing.assert_allclose(
        image.locations, [[0, 0, 1, 1, 1], [0, 0, 0.5, 0.5, 0.25], [0.5, 0.125, 1, 0.375, 0.125]]
    )


def test_an_image_without_regions_is_blank(texts, store):
    image = Sources(texts, store).read_image("9")
    np.testing.assert_array_equal(image.features, np.zeros((1, FEATURES)))
    np.testing.assert_array_equal(image.locations, [[0, 0, 1, 1, 1]])


def test_a_batch_is_padded_to_its_longest_and_masked_only_where_it_is(texts, store):
    sources = Sources(texts, store)
    short, long = texts.encode("the", 9), texts.encode("the red thing", 9)
    inputs = sources.pad([short, long], [sources.read_image("1"), sources.read_image("2")])
    assert inputs["token_ids"].tolist()[0] == [*short.token_ids, texts.pad, texts.pad]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 0, 0], [0, 1, 2, 3, 4]]
    assert inputs["text_mask"].sum(1).tolist() == [3, 5]
    assert inputs["image_mask"].sum(1).tolist() == [3, 4]
    assert not inputs["features"][0, 3].any()
    assert not inputs["locations"][0, 3].any()
    even = sources.pad([short, short], [sources.read_image("1")] * 2)
    assert even["text_mask"] is even["image_mask"] is None


def test_a_batch_counts_what_is_not_padding_and_moves_as_a_whole(texts, store):
    sources = Sources(texts, store)
    inputs = sources.pad([texts.encode("the", 9), texts.encode("the red thing", 9)], [sources.read_image("1")] * 2)
    batch = TaskBatch(inputs, {"right": torch.zeros(2)})
    assert (batch.samples(), batch.tokens(), batch.shape) == (2, 8, (2, 5, 3))
    moved = batch.to(torch.device("meta"))
    assert moved.device.type == moved.labels["right"].device.type == "meta"
    assert moved.inputs["image_mask"] is None
    assert move_inputs(inputs, torch.device("meta"))["features"].device.type == "meta"


def test_several_splits_have_regions_of_one_size(store, tmp_path):
    other = RegionStore([regions_folder(tmp_path / "other", {"3": grid(1)})])
    joined = JoinedRegions([store, other])
    assert [image in joined for image in ("1", "3", "4")] == [True, True, False]
    assert len(joined["3"].regions.boxes) == 1
    with pytest.raises(KeyError):
        joined["4"]
    larger = RegionStore([regions_folder(tmp_path / "larger", {"3": grid(1)}, features=FEATURES + 1)])
    with pytest.raises(InputError, match="use the regions of one detector"):
        JoinedRegions([store, larger])
