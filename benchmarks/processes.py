"""Commands as processes of their own, with time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence


def timed(command: Sequence[str]) -> tuple[float, int, str]:
    """Wall seconds, peak memory of the largest process it started, and output of a command."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    watched = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True, check=True)\n"
        "print(done.stdout)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", watched, *command],
        env=os.environ | threads,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    output, _, peak = done.stdout.rstrip().rpartition("\n")
    return seconds, int(peak) * 1024, output.rstrip()
