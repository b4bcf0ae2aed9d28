"""Paddle Fluid's binary variables, also from hostile hands."""

import io
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from finetune.released.paddle_files import DTYPES, read_combined, read_variable, write_variable
from parsers.command import InputError

arrays = st.sampled_from(list(DTYPES.values())).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


def record(array):
    stream = io.BytesIO()
    write_variable(stream, array)
    return stream.getvalue()


def test_the_layout_is_paddles():
    assert record(np.zeros(20, np.float32))[:24] == bytes.fromhex(
        "00000000 0000000000000000 00000000 04000000 0805 1014"
    )
    assert record(np.zeros((5, 20), np.float32))[16:26] == bytes.fromhex("06000000 0805 1005 1014")


@given(st.lists(arrays, min_size=1, max_size=4))
def test_what_is_written_is_read_again(tmp_path_factory, variables):
    path = tmp_path_factory.mktemp("paddle") / "__all__"
    path.write_bytes(b"".join(map(record, variables)))
    found = read_combined(path)
    assert len(found) == len(variables)
    for a, b in zip(found, variables, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


GOOD = record(np.arange(6, dtype=np.float32).reshape(2, 3))


def described(description, data=b""):
    return struct.pack("<IQIi", 0, 0, 0, len(description)) + description + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x80\x04" + GOOD, "version"),
        (pickle.dumps({"a": 1}), "version"),
        (struct.pack("<IQ", 0, 1 << 40), "levels"),
        (struct.pack("<IQQ", 0, 1, 1 << 60), "a level needs"),
        (struct.pack("<IQI", 0, 0, 7), "tensor version 7"),
        (struct.pack("<IQIi", 0, 0, 0, -1), "description of -1"),
        (struct.pack("<IQIi", 0, 0, 0, 1 << 30), "description of"),
        (described(b"\x08\x07\x10\x01", b"\0" * 8), "data type 7"),
        (described(b"\x10\x01", b"\0" * 8), "data type None"),
        (described(b"\x08\x05\x18\x01"), "field 0x18"),
        (described(b"\x08\x05\x10\x80"), "cut short"),
        (described(b"\x08\x05\x10\xff\xff\xff\xff\xff\xff\xff\x7f"), "dimensions"),
        (described(b"\x08\x05\x10\xff\xff\xff\xff\x7f\x10\xff\xff\xff\xff\x7f"), "needs"),
        (described(b"\x08\x05" + b"\x10\x01" * 20, b"\0" * 4), "dimensions"),
        (described(b"\x08\x00\x10\x02", b"\x00\x07"), "truth value"),
        (GOOD + b"\0", "the version needs"),
    ],
)
def test_hostile_files_are_refused_within_their_size(tmp_path, content, message):
    path = tmp_path / "variable"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(InputError, match=message):
        read_combined(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("length", range(1, len(GOOD)))
def test_a_file_cut_anywhere_is_refused(tmp_path, length):
    path = tmp_path / "variable"
    path.write_bytes(GOOD[:length])
    with pytest.raises(InputError, match="byte"):
        read_variable(path)


@given(st.binary(max_size=200))
def test_any_bytes_give_arrays_or_a_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("paddle") / "variable"
    path.write_bytes(content)
    try:
        found = read_combined(path)
    except InputError:
        return
    assert sum(array.nbytes for array in found) <= len(content)


def test_a_combined_file_is_no_variable(tmp_path):
    (tmp_path / "two").write_bytes(GOOD * 2)
    with pytest.raises(InputError, match="holds 2 variables"):
        read_variable(tmp_path / "two")
    with pytest.raises(InputError, match="cannot be read"):
        read_variable(tmp_path / "none")
