"""The process that reads an LMDB: ``python lmdb_process.py PATH START COUNT [--keys]``.

LMDB maps its file into memory and believes it, so that a damaged page can end the process that reads it. This one has
nothing to lose. It imports nothing of the project, so that it starts in a moment.

It writes records from the key START (hexadecimal) on, COUNT at most: the length of the key in 4 bytes and that of the
value in 8, the key, and the value unless only keys are asked for. Behind the last record stands a message in place of a
key, with -1 as the length of its value: it is empty, or says what is wrong with the file.
"""

import struct
import sys
from pathlib import Path

import lmdb

HEADER = struct.Struct("<Iq")
MAX_VALUE = 1 << 28
"""the most bytes of a record"""


class LmdbDamage(Exception):
    """Something is wrong with the file."""


def main(path: str, start: bytes, count: int, *, only_keys: bool) -> str:
    """Writes the records and returns what is wrong with the file."""
    try:
        with lmdb.open(path, readonly=True, lock=False, readahead=False, subdir=False) as environment:
            pages, bytes_there = environment.info()["last_pgno"] + 1, Path(path).stat().st_size
            if bytes_there < pages * environment.stat()["psize"]:
                return f"is cut off: it has {bytes_there:,} bytes but names {pages:,} pages"
            _write(environment, start, count, only_keys)
    except lmdb.Error as error:
        return f"cannot be read as an LMDB: {error}"
    except LmdbDamage as error:
        return f"is damaged: {error}"
    return ""


def _write(environment: lmdb.Environment, start: bytes, count: int, only_keys: bool) -> None:
    out, last = sys.stdout.buffer, None
    with environment.begin(buffers=True) as transaction:
        cursor = transaction.cursor()
        there = cursor.set_range(start) if start else cursor.first()
        while there and count > 0:
            key, value = bytes(cursor.key()), b"" if only_keys else cursor.value()
            if last is not None and key <= last:
                raise LmdbDamage("its keys are not in order")
            if len(value) > MAX_VALUE:
                raise LmdbDamage(f"a record has {len(value):,} bytes, expected at most {MAX_VALUE:,}")
            out.write(HEADER.pack(len(key), len(value)))
            out.write(key)
            out.write(value)
            last, count, there = key, count - 1, cursor.next()


if __name__ == "__main__":
    message = main(sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3]), only_keys="--keys" in sys.argv).encode()
    sys.stdout.buffer.write(HEADER.pack(len(message), -1) + message)
