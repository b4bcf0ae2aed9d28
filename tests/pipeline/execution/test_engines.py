"""Whole stages as commands: on Ray, with workers killed in the middle, and stopped by Ctrl-C."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pipeline.execution.engines import Engine
from tests.pipeline.outputs import contents

ROOT = Path(__file__).parents[3]
ROWS, PART = 4_000, 250
PATIENT = """
import os, time
from pathlib import Path
from parsers.neural.parser import NeuralParser

class PatientParser(NeuralParser):
    name = "patient"

    def parse(self, captions):
        while "number 0 " not in captions[0] and not Path(os.environ["GO"]).exists():
            time.sleep(0.01)
        return super().parse(captions)
"""
"""A parser that waits for a file, the first part apart."""


@pytest.fixture(scope="module", autouse=True)
def go(tmp_path_factory):
    """The file that it waits for; what is started here finds the parser."""
    folder = tmp_path_factory.mktemp("patient")
    (folder / "patient.py").write_text(PATIENT)
    installed = folder / "patient-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: patient\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[ernie_vil.parsers]\npatient = patient:PatientParser\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
        patch.setenv("GO", str(folder / "go"))
        yield folder / "go"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("captions") / "captions.jsonl"
    things = ["a red bus", "two dogs", "the man's hat", "a wooden table with food on it", "a cat", "people"]
    places = ["near", "on top of", "behind", "under", "next to"]
    with path.open("w") as stream:
        for n in range(ROWS):
            text = f"{things[n % 6]} {places[n % 5]} {things[(n // 6 + 1) % 6]} number {n} and {things[(n // 36) % 6]}"
            stream.write(json.dumps({"image_id": str(n // 5), "caption_id": str(n), "caption": text}) + "\n")
    return path


def command(source, out, *options):
    return [
        *(sys.executable, "-m", "pipeline.parse", str(source), "--parser", "patient", "--out", str(out)),
        *("--workers", "2", "--partition-size", str(PART), *options),
    ]


@pytest.fixture(scope="module")
def expected(source, go, tmp_path_factory):
    """What the local engine writes."""
    out = tmp_path_factory.mktemp("local") / "out"
    go.touch()
    subprocess.run(command(source, out), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return contents(out)


@contextmanager
def started(source, go, out, *options):
    """A process that waits when it has made the first part; whatever happens, it does not outlive the test."""
    go.unlink(missing_ok=True)
    with (out.parent / f"{out.name}.log").open("w+") as log:
        process = subprocess.Popen(command(source, out, *options), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_until(condition, process, out):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, log_of(out)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def a_part_is_there(out):
    return lambda: any(out.glob("part-*.stats.json"))


def log_of(out):
    return (out.parent / f"{out.name}.log").read_text()


def workers_of(process):
    """Ray's worker processes that run our task."""
    return [
        child for child in psutil.Process(process.pid).children(recursive=True) if "ray::" in "".join(child.cmdline())
    ]


@pytest.mark.slow
def test_ray_writes_the_same_bytes_though_a_worker_is_killed(source, go, expected, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    out = tmp_path / "out"

    def busy():
        return [worker for worker in workers_of(process) if "_make_part" in "".join(worker.cmdline())]

    with started(source, go, out, "--engine", "ray") as process:
        wait_until(a_part_is_there(out), process, out)
        wait_until(busy, process, out)
        busy()[0].kill()
        go.touch()
        process.wait(timeout=240)
    assert process.returncode == 0, log_of(out)
    assert contents(out) == expected
    report = json.loads((out / "report.json").read_text())
    assert (report["engine"], report["statistics"]["rows"]) == ("ray", ROWS)


@pytest.mark.slow
def test_two_nodes_write_the_same_bytes(source, go, expected, tmp_path):
    """As docs/stages.md has it, with both nodes on this machine."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    go.touch()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        out = tmp_path / "out"
        done = subprocess.run(
            command(source, out, "--engine", "ray", "--ray-address", cluster.address),
            cwd=ROOT,
            capture_output=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert contents(out) == expected
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_a_worker_with_a_gpu_is_built_once(tmp_path, monkeypatch):
    """The GPU is one by name only."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    class Stage:
        name = "stage"

        def worker(self):
            with (tmp_path / "built").open("a") as stream:
                stream.write("once\n")
            return lambda partition, part: None

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1})
    try:
        engine = Engine("ray", 1, cluster.address, gpus=1)
        done = []
        engine.run(Stage(), tmp_path, enumerate(range(4)), lambda parts, rows=0: done.append(parts))
        assert sum(done) == 4
        assert (tmp_path / "built").read_text() == "once\n"
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_cluster_that_is_not_there_is_an_input_error(source, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    options = ("--engine", "ray", "--ray-address", "127.0.0.1:1")
    done = subprocess.run(
        command(source, tmp_path / "out", *options), cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "no Ray cluster at '127.0.0.1:1'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_ctrl_c_stops_all_processes_and_a_rerun_finishes(source, go, expected, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray", reason="Ray is not installed")
    out = tmp_path / "out"
    with started(source, go, out, "--engine", engine) as process:
        wait_until(a_part_is_there(out), process, out)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert process.returncode == 130, log_of(out)
    assert "Traceback" not in log_of(out)
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert not (out / "report.json").exists()
    go.touch()
    subprocess.run(command(source, out), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert contents(out) == expected
    assert (out / "report.json").exists()
