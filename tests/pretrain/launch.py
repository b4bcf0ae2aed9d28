"""Starts processes that train together, as a launcher does but without one: a launch is the longest part of a test."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def deepspeed():
    """The launcher's command for two processes. Its usual port, 29500, may be another run's."""
    return ["deepspeed", "--num_gpus", "2", "--master_port", str(free_port())]


def free_port():
    """One that nobody has right now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Launch:
    """The processes of one command, one for each rank, in a process group of their own."""

    def __init__(self, command, folder, ranks, threads=1, **options):
        port = free_port()
        self.processes = [
            subprocess.Popen(
                [str(part) for part in command], cwd=folder, env=environment(folder, rank, ranks, port, threads),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **options,
            )
            for rank in range(ranks)
        ]  # fmt: skip

    def running(self):
        return all(process.poll() is None for process in self.processes)

    def wait(self):
        """What each process has printed."""
        return [process.communicate(timeout=500)[0] for process in self.processes]

    def succeed(self):
        outputs = self.wait()
        assert [process.returncode for process in self.processes] == [0] * len(outputs), "\n".join(outputs)
        return outputs[0]

    def fail(self, *messages, code=1):
        """All ranks end with this code, and the first one says so without a traceback."""
        outputs = self.wait()
        assert [process.returncode for process in self.processes] == [code] * len(outputs), "\n".join(outputs)
        for message in messages:
            assert message in " ".join(outputs[0].split()), outputs[0]
        assert "Traceback" not in outputs[0]
        return outputs[0]

    def kill(self):
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
        self.wait()


def environment(folder, rank=0, ranks=1, port=0, threads=1):
    taken = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    found = {key: value for key, value in os.environ.items() if key not in taken} | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
        "TORCH_EXTENSIONS_DIR": str(folder / "compiled"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    if ranks > 1:
        found |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        found |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return found
