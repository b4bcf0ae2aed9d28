"""Runs commands as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence


def run_alone(command: Sequence[str]) -> tuple[int, str]:
    """Runs a command with one thread for each library; returns the peak memory of its largest process and its output.

    Raises:
        CalledProcessError: it has failed.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    watched = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True, check=True)\n"
        "print(done.stdout)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", watched, *command],
        env=os.environ | threads,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    output, _, peak = done.stdout.rstrip().rpartition("\n")
    return int(peak) * 1024, output.rstrip()
