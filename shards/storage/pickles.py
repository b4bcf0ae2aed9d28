"""Reads pickles of plain values without running the code that they name.

A pickle is a program: unpickling one from a stranger runs the stranger's code. Dicts, strings, numbers and NumPy arrays
need few constructors. Here, harmless stand-ins replace these, and every other name is refused.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import numpy as np

from shards.schema import Array

_NUMBERS = "biuf"


def unpickle(data: bytes) -> Any:
    """The value in a pickle: a number, string, bytes or array, or lists and dicts of these.

    Raises:
        ValueError: the pickle holds anything else, or it is damaged.
    """
    try:
        # This is the unpickler in Python. The one in C reserves as much memory as a damaged pickle asks for.
        value = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        if isinstance(value, _Array) and value.objects is not None:  # np.save of a dict: an array of one object
            (value,) = value.objects
        return _plain(value, {})
    except Exception as error:
        raise ValueError(f"not a pickle of plain values ({error or type(error).__name__})") from None


def _plain(value: object, seen: dict[int, object]) -> object:
    """The value without stand-ins. A value that occurs again is converted once, because a small pickle may repeat one
    so often that copies would fill the memory."""
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, dict):
        plain: object = {_plain(key, seen): _plain(item, seen) for key, item in value.items()}
    elif isinstance(value, list):
        plain = [_plain(item, seen) for item in value]
    elif isinstance(value, _Array) and value.array is not None:
        plain = value.array
    elif value is None or isinstance(value, str | bytes | int | float):
        return value
    else:
        raise ValueError(f"it holds a {type(value).__name__}")
    seen[id(value)] = plain
    return plain


def _with_plain_keys(opcode: int, places: slice) -> Callable[[Any], None]:
    """The function for an opcode that makes entries of a dict, whose keys lie at some places of the stack."""
    make = pickle._Unpickler.dispatch[opcode]

    def make_checked(unpickler: Any) -> None:
        for key in unpickler.stack[places]:
            if key is not None and not isinstance(key, str | bytes | int | float):
                raise ValueError(f"a key that is a {type(key).__name__}")
        make(unpickler)

    return make_checked


def _refuse_set(_: object) -> NoReturn:
    raise ValueError("it holds a set")


class _Unpickler(pickle._Unpickler):
    """An unpickler that calls only harmless functions and hashes only plain keys.

    The hash of a tuple of itself twice, and so on 60 times over, takes years, in a pickle of 300 bytes.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        **{opcode: _with_plain_keys(opcode, slice(None, None, 2)) for opcode in (pickle.DICT[0], pickle.SETITEMS[0])},
        pickle.SETITEM[0]: _with_plain_keys(pickle.SETITEM[0], slice(-2, -1)),
        **dict.fromkeys((pickle.EMPTY_SET[0], pickle.ADDITEMS[0], pickle.FROZENSET[0]), _refuse_set),
    }

    def find_class(self, module: str, name: str) -> _Constructor:
        known = _KNOWN.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise ValueError(f"it asks for {module}.{name}")
        return known

    def persistent_load(self, _: object) -> NoReturn:
        raise ValueError("it refers to something outside")


class _Constructor:
    """A function that a pickle may call. The pickle cannot change it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> NoReturn:
        raise ValueError("it changes a constructor")


class _Dtype:
    __slots__ = ("dtype",)

    def __init__(self, name: str, *_: object) -> None:
        self.dtype = np.dtype(name) if name != "O8" else np.dtype(object)
        if self.dtype.kind not in _NUMBERS + "O":
            raise ValueError(f"an array of {name}")

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")
        elif state[1] == "<":
            self.dtype = self.dtype.newbyteorder("<")


class _Array:
    __slots__ = ("array", "objects")

    def __init__(self) -> None:
        self.array: Array | None = None
        self.objects: list[object] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, data = state[-4:]
        if dtype.dtype.kind == "O":
            if shape != () or not isinstance(data, list):
                raise ValueError("an array of objects")
            self.objects = data
        else:
            raw = data.encode("latin1") if isinstance(data, str) else data
            self.array = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")


def _frombuffer(data: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((shape, dtype, order == "F", data))
    return array


def _scalar(dtype: _Dtype, data: bytes) -> object:
    if dtype.dtype.kind not in _NUMBERS:
        raise ValueError("a scalar that is no number")
    return np.frombuffer(data, dtype.dtype)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes written as {encoding}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], _Constructor] = {
    ("numpy.core.multiarray", "_reconstruct"): _Constructor(lambda *_: _Array()),
    ("numpy.core.multiarray", "scalar"): _Constructor(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Constructor(_frombuffer),
    ("numpy", "ndarray"): _Constructor(lambda *_: _Array()),
    ("numpy", "dtype"): _Constructor(_Dtype),
    ("_codecs", "encode"): _Constructor(_encode),
    ("__builtin__", "bytes"): _Constructor(lambda: b""),  # old protocols write empty bytes so
}
