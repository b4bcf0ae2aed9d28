"""Pickles are read without running the code that they name."""

import contextlib
import os
import pickle
import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shards.storage import pickles


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["alone", "in a dict", "in an array"])
def test_a_pickle_that_runs_code_runs_nothing(tmp_path, protocol, place):
    flag = tmp_path / "ran"
    value = Hostile(os.mkdir, str(flag))
    value = {"alone": value, "in a dict": {"boxes": value}, "in an array": np.array([value], object)}[place]
    with pytest.raises(ValueError, match="not a pickle of plain values"):
        pickles.unpickle(pickle.dumps(value, protocol))
    assert not flag.exists()


@given(
    st.binary(max_size=60) | st.lists(st.sampled_from([*b"\x80\x04}(]cNRbuas.0q\x00rjh\x93\x8c\x95\xff"])).map(bytes)
)
@example(b"\x80\x04r\xff\xff\xff\xff.")  # a memo of four billion entries
@example(b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.")  # bytes of a terabyte
def test_any_bytes_are_a_value_or_an_error(data):
    with contextlib.suppress(ValueError):
        assert pickles.unpickle(data) is None or isinstance(
            pickles.unpickle(data), bool | int | float | str | bytes | list | dict
        )


PLAIN = st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=20)
ARRAYS = st.tuples(
    st.sampled_from(["<f4", ">f8", "<i8", "?", "<u2", "<f2"]), st.integers(0, 5), st.sampled_from("CF")
).map(lambda args: np.arange(2 * args[1]).reshape(2, args[1]).astype(args[0], order=args[2]))


@given(st.dictionaries(st.text(), PLAIN | ARRAYS), st.integers(0, 5))
def test_plain_values_are_what_pickle_makes_of_them(value, protocol):
    found = pickles.unpickle(pickle.dumps(value, protocol))
    assert found.keys() == value.keys()
    for name, item in value.items():
        np.testing.assert_array_equal(found[name], item, strict=isinstance(item, np.ndarray))


BOMBS = {
    "a key whose hash takes years": b"\x80\x04})" + b"2\x86" * 60 + b"K\x01s.",
    "the same for several keys": b"\x80\x04}()" + b"2\x86" * 60 + b"K\x01u.",
    "the same for an old dict": b"()" + b"2\x86" * 60 + b"K\x01d.",
    "a set of it": b"\x80\x04\x8f()" + b"2\x86" * 60 + b"\x90.",
    "a frozen set of it": b"\x80\x04()" + b"2\x86" * 60 + b"\x91.",
    "lists nested deeply": b"\x80\x04" + b"](" * 100_000 + b"e" * 100_000 + b".",
    "a list in itself": b"\x80\x04]2a.",
    "a list twice in a list, 60 times": b"\x80\x04](K\x01e" + b"(22lq\x01" * 60,
    "a length of exabytes": b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b"x.",
    "a text of exabytes": b"\x80\x04\x8d" + ((1 << 64) - 1).to_bytes(8, "little") + b"x.",
    "a number of 100,000 digits": b"L" + b"9" * 100_000 + b"L\n.",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_small_pickles_that_would_take_years_or_exabytes_are_refused_at_once(bomb):
    before = time.process_time()
    with pytest.raises(ValueError, match="not a pickle of plain values"):
        pickles.unpickle(bomb)
    assert time.process_time() - before < 10
