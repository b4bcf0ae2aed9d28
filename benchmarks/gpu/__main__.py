"""Runs all steps while there is time, and writes a report: ``python -m benchmarks.gpu --out DIR``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.gpu import processes
from benchmarks.gpu.report import Outcome, Report, machine
from benchmarks.gpu.steps import STEPS, Setting, Step

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ernie-vil-pytorch"
LEAST_SECONDS = 8.0
"""No step is begun when less time than this is left."""


def main() -> int:
    """Returns the exit code: 0 if nothing has failed."""
    arguments = _arguments()
    steps = [step for step in STEPS if not arguments.only or step.name in arguments.only]
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = arguments.out.resolve() / "log.txt"
    log.write_text("")
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as name:
        scratch = Path(name)
        _prepare(scratch, arguments.device)
        processes.preload()
        setting = Setting(arguments.device, arguments.tiny, scratch, log)
        facts = machine() | {"device": arguments.device + ", tiny" * arguments.tiny}
        report = Report(arguments.out, [step.name for step in steps], facts)
        do(steps, setting, report, seconds=60 * arguments.minutes)
    print(f"{report.summary()}; see {arguments.out / 'results.md'} and {log}")
    return int(report.count("fail") > 0)


def do(steps: Sequence[Step], setting: Setting, report: Report, *, seconds: float) -> None:
    """Runs the steps one after the other and reports each. Steps for which no time is left are skipped."""
    end = time.monotonic() + seconds
    for step in steps:
        left = end - time.monotonic()
        if left < LEAST_SECONDS:
            outcome = Outcome(step.name, "skipped", 0.0, "no time left")
        else:
            outcome = processes.run(step, setting, min(step.seconds, left))
            if outcome.status == "fail" and left < step.seconds and outcome.seconds >= left:
                outcome = Outcome(step.name, "skipped", outcome.seconds, "no time left to finish it")
        report.add(outcome)
        print(f"{outcome.status:8}{outcome.seconds:6.1f} s  {step.name}  {outcome.reason}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results.md, results.json and log.txt")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no more is done (default: 9)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="little of everything: to see that the steps run")
    parser.add_argument(
        "--only", action="append", choices=[step.name for step in STEPS], metavar="STEP", help="may be repeated"
    )
    return parser.parse_args()


def _prepare(scratch: Path, device: str) -> None:
    """Prepares the environment of all steps."""
    paths = [str(ROOT)]
    try:
        version(PACKAGE)
    except PackageNotFoundError:  # a plain checkout: its parsers and detectors are found by its metadata
        command = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "egg_info", "--egg-base"]
        subprocess.run([*command, str(scratch)], cwd=ROOT, check=False)
        paths.append(str(scratch))
    sys.path[:0] = paths  # of the steps' processes, too; what they start reads the variable
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(filter(None, [*paths, os.environ.get("PYTHONPATH")])),
        "DS_ACCELERATOR": device,  # else DeepSpeed asks CUDA when it is imported
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # and who asks whether there is a GPU asks the driver's library
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TRITON_CACHE_DIR": str(scratch / "triton"),
        "TORCH_EXTENSIONS_DIR": str(scratch / "extensions"),
    }
    if device == "cpu":
        # Small models gain nothing by more threads, and lose much where others keep the cores busy.
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    sys.exit(main())
