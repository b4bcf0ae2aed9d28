"""Small files that unfold to gigabytes, and what reading one of them takes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
MEMORY = 1 << 30
"""the most bytes that a process may take for a bomb; with its libraries, an idle one takes 100 to 300 MB"""
PROGRAM = """
import re, resource, sys
from pathlib import Path
from parsers.command import InputError

path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for code in sys.argv[2:]:
    try:
        exec(code)
    except InputError as error:
        print(error)
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def read_in_a_process(path, *codes):
    """Runs lines of code that read ``path``. Returns the lines that they print, or their errors.

    The memory and the time of the process are bounded.
    """
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path), *codes], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    *said, memory = done.stdout.splitlines()
    assert int(memory) * 1024 < MEMORY, f"{int(memory):,} KiB"
    return said


def repeat(value, times):
    """A column that holds one value many times, and writes it once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([value]))


def write_repeated(path, table, times=1):
    """Writes a table some times over, as row groups of one file."""
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(times):
            writer.write_table(table)
    return path
