"""Captions, looked up by image."""

import pyarrow as pa

from tests.pipeline.pack.tables import captions_of


def test_the_captions_of_an_image_come_in_their_order_wherever_they_lie(tmp_path):
    captions = captions_of(tmp_path, ["b", "a", "b"], ["c", "b"])
    assert len(captions) == 5
    assert captions.image_ids.to_pylist() == ["b", "a", "c"]
    assert captions.counts.tolist() == [3, 1, 1]
    table = captions.take(pa.array([2, 0]).to_numpy())
    assert table["image_id"].to_pylist() == ["c", "b", "b", "b"]
    assert table["caption_id"].to_pylist() == ["0", "0", "2", "1"]
    assert len(captions.take(pa.array([], pa.int64()).to_numpy())) == 0
