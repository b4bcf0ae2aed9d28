"""Runs commands as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence


def run_alone(command: Sequence[str]) -> tuple[int, str]:
    """Runs a command to its end. OpenMP, OpenBLAS and MKL have one thread each.

    Returns:
        The peak resident memory of the largest process that the command had, in bytes, and what it printed on stdout.

    Raises:
        CalledProcessError: the command has failed.
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
