"""Pictures that nearly repeat each other."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from parsers.command import InputError
from pipeline.duplicates.pictures import HASH_TABLE, MAX_BITS, PictureIndex, hash_picture, read_hashes, write_hashes
from pipeline.duplicates.search import find_groups, find_matches
from tests.pipeline.duplicates.pictures import draw
from tests.shards.samples import flip


def index_of(hashes, size=3):
    kind = HASH_TABLE.field("hash").type
    return PictureIndex(pa.array(hashes[start : start + size], kind) for start in range(0, len(hashes), size))


def compress(picture, quality):
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


def bits_between(a, b):
    return sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))


CHANGES = {
    "smaller": lambda picture: picture.resize((107, 80)),
    "square": lambda picture: picture.resize((256, 256)),
    "compressed": lambda picture: compress(picture, 30),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_alike_and_another_picture_is_not(change):
    original, copy = (hash_picture(np.asarray(picture)) for picture in (draw(0), CHANGES[change](draw(0))))
    assert bits_between(original, copy) <= MAX_BITS
    assert bits_between(original, hash_picture(np.asarray(draw(1)))) > 2 * MAX_BITS


def test_real_photos_keep_their_hash_and_differ_from_each_other(shared):
    photos = [Image.open(path).convert("RGB") for path in sorted((shared / "data/images").glob("*.jpg"))[:25]]
    hashes = [hash_picture(np.asarray(photo)) for photo in photos]
    copies = [hash_picture(np.asarray(compress(photo.reduce(2), 60))) for photo in photos]
    assert max(bits_between(a, b) for a, b in zip(hashes, copies, strict=True)) <= MAX_BITS
    index = index_of(hashes + copies)
    groups = find_groups(index)[index.entries]
    assert (groups[:25] == groups[25:]).all()
    assert len(set(groups.tolist())) == 25


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_that_shows_nothing_has_no_hash(value):
    assert hash_picture(np.full((50, 60, 3), value, np.uint8)) is None
    index = index_of([None, None])
    assert len(index) == 0
    assert index.entries.tolist() == [-1, -1]
    assert find_groups(index).tolist() == []


@settings(max_examples=40)
@given(st.lists(st.none() | st.binary(min_size=32, max_size=32), max_size=8), st.integers(0, 2**32))
def test_pictures_that_differ_in_few_bits_are_matched(hashes, seed):
    values = np.random.default_rng(seed)
    near = []
    for number, original in enumerate(hashes):
        flipped = bytearray(original or b"")
        for bit in values.choice(256, 2 * number, replace=False) if original else ():
            flipped[bit // 8] ^= 128 >> bit % 8
        near.append(bytes(flipped) if original else None)
    index, other = index_of(hashes), index_of(near)
    a, b, similarity = find_matches(index, other)
    found = dict(zip(zip(a.tolist(), b.tolist(), strict=True), similarity.tolist(), strict=True))
    for mine, theirs, x, y in zip(hashes, near, index.entries.tolist(), other.entries.tolist(), strict=True):
        if mine is not None:
            assert found[x, y] == pytest.approx(1 - bits_between(mine, theirs) / 256)
    assert min(similarity.tolist(), default=1) >= 1 - MAX_BITS / 256


def test_hashes_are_read_as_they_were_written(tmp_path):
    (tmp_path / "hashes").mkdir()
    assert list(read_hashes(tmp_path)) == []
    for number, rows in enumerate([[("a", bytes(32)), ("b", None)], [("c", bytes(range(32)))]]):
        with (tmp_path / f"hashes/part-{number:05d}.parquet").open("wb") as stream:
            write_hashes(stream, *zip(*rows, strict=True))
    found = [row for batch in read_hashes(tmp_path) for row in batch.to_pylist()]
    assert [(row["image_id"], row["hash"]) for row in found] == [("a", bytes(32)), ("b", None), ("c", bytes(range(32)))]
    flip(tmp_path / "hashes/part-00000.parquet", 30)
    with pytest.raises(InputError, match=r"part-00000\.parquet: cannot be read"):
        list(read_hashes(tmp_path))
