"""The bytes of a sample: they are read as they were written, and damaged ones are refused."""

import contextlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings

from shards.members import decode_masks, decode_npy, decode_record
from shards.reader import ShardSet
from shards.schema import MASK_DTYPES
from tests.shards.samples import any_samples, encoded


@settings(max_examples=30, deadline=None)
@given(any_samples())
def test_a_sample_is_read_as_it_was_written(sample):
    sample.masks.check()
    sample.regions.check(sample.width, sample.height)
    members = {name: memoryview(data) for name, data in encoded(sample).items()}
    assert decode_record(members["json"]) == (sample.image_id, sample.width, sample.height, sample.captions)
    masks = decode_masks(members["masks.npz"])
    masks.check()
    for name, dtype in MASK_DTYPES.items():
        np.testing.assert_array_equal(getattr(masks, name), getattr(sample.masks, name), strict=True)
        assert getattr(masks, name).dtype == dtype
    for name in ("boxes", "features", "class_ids", "class_probs"):
        expected = getattr(sample.regions, name)
        if expected is None:
            assert f"{name}.npy" not in members
        else:
            np.testing.assert_array_equal(decode_npy(members[f"{name}.npy"]), expected, strict=True)


@settings(max_examples=30, deadline=None)
@given(any_samples())
def test_numpy_alone_reads_the_masks_and_equal_samples_give_equal_bytes(sample):
    members = encoded(sample)
    assert members == encoded(sample)
    with np.load(io.BytesIO(members["masks.npz"])) as archive:
        assert set(archive.files) == set(MASK_DTYPES)
        for name in MASK_DTYPES:
            np.testing.assert_array_equal(archive[name], getattr(sample.masks, name), strict=True)


def npy(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


ROWS = np.arange(6, dtype=np.float16).reshape(2, 3)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(npy(ROWS)[:7], id="cut in the magic"),
        pytest.param(npy(ROWS)[:40], id="cut in the header"),
        pytest.param(npy(ROWS)[:-1], id="cut in the data"),
        pytest.param(npy(ROWS) + b"\0", id="too long"),
        pytest.param(npy(ROWS, version=(2, 0)), id="format 2.0"),
        pytest.param(npy(np.asfortranarray(ROWS)), id="Fortran order"),
        pytest.param(npy(np.array([{}, None], object)), id="pickled"),
        pytest.param(npy(ROWS).replace(b"'<f2'", b"'<zz'"), id="unknown type"),
        pytest.param(npy(ROWS).replace(b"(2, 3)", b"(2, x)"), id="shape is no shape"),
        pytest.param(npy(ROWS).replace(b"(2, 3)", b"(2, 4)"), id="shape is another one"),
    ],
)
def test_bytes_that_are_no_plain_array_are_refused(data):
    with pytest.raises(ValueError):
        decode_npy(memoryview(data))


def test_damaged_bytes_are_a_value_error_and_nothing_else():
    sound = npy(ROWS)
    for bit in range(8 * len(sound)):
        raw = bytearray(sound)
        raw[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ValueError):
            decode_npy(memoryview(bytes(raw)))


def test_arrays_are_views_that_cannot_be_written_to():
    data = memoryview(npy(ROWS))
    array = decode_npy(data)
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))
    assert not array.flags.writeable


def test_compressed_or_foreign_masks_are_refused():
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: np.zeros(1, dtype) for name, dtype in MASK_DTYPES.items()})
    with pytest.raises(ValueError):
        decode_masks(memoryview(stream.getvalue()))
    stream = io.BytesIO()
    np.savez(stream, token_ids=np.zeros(1, np.int32))
    with pytest.raises(ValueError):
        decode_masks(memoryview(stream.getvalue()))
    with pytest.raises(ValueError):
        decode_masks(memoryview(b""))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"null", b"\xff"])
def test_a_record_that_is_none_is_refused(data):
    with pytest.raises(ValueError):
        decode_record(memoryview(data))


def test_the_masks_are_a_zip_file_without_faults(folder):
    shards = ShardSet(folder)
    for place in shards:
        with zipfile.ZipFile(io.BytesIO(shards.member(*place, "masks.npz"))) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [f"{name}.npy" for name in MASK_DTYPES]
