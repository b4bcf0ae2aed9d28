"""A server in this process, with a project of toys, and a training that takes seconds."""

import io
import os
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager

import httpx
import psutil
import pytest
from filelock import FileLock
from starlette.testclient import TestClient

from matcher.serve.app import build_app
from matcher.serve.guard import Access
from matcher.serve.server import ServerSettings
from tests.conftest import ROOT
from tests.matcher.conftest import QUICK, SHORT

ORIGIN = "http://127.0.0.1:8000"
PAGE = {"accept": "text/html", "origin": ORIGIN}
PATIENCE = 120
"""seconds after which a test that waits gives up"""


def quick_training(own):
    """The command that trains, with a short pretraining and three steps."""
    return [sys.executable, "-c", QUICK, str(own.recipe), *SHORT]


def start(own, data, token=None):
    """A client of a server; it works inside `with`."""
    app = build_app(ServerSettings(data, (own.weights.parent / "models",), Access(token), quick_training(own)))
    return TestClient(app, base_url=ORIGIN, headers=PAGE, follow_redirects=True)


def zip_of(files):
    """An archive of some files, given by name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def toys(own, count=12, regions=True):
    """The files of the toy world: pictures, captions and regions."""
    files = {path.name: path.read_bytes() for path in sorted(own.photos.iterdir())[:count]}
    files["captions.csv"] = own.captions.read_bytes()
    if regions:
        files |= {f"regions/{path.name}": path.read_bytes() for path in sorted(own.regions.iterdir())}
    return files


def wait_for(ask, what):
    """Asks until the answer is true, and returns it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if answer := ask():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


def upload(client, key, files, **fields):
    """Sends files, and returns the page that says what was understood."""
    parts = [("files", (name, data)) for name, data in files.items()]
    client.post(f"/projects/{key}/data", files=parts, data=fields)

    def read():
        page = client.get(f"/projects/{key}/incoming").text
        return page if 'http-equiv="refresh"' not in page else None

    return wait_for(read, "the upload to be looked at")


def create(client, name="Toys"):
    """Makes a project and returns its key."""
    return client.post("/projects", data={"name": name}).url.path.split("/")[2]


def progress(client, key, number=1):
    """How far a training is."""
    return client.get(f"/projects/{key}/versions/{number}/progress").json()


def ask(client, path, **body):
    """What a program gets."""
    return client.post(path, json=body, headers={"accept": "*/*"})


@pytest.fixture
def client(own, tmp_path):
    """A client of a server without projects."""
    with start(own, tmp_path / "data") as found:
        yield found


SERVER = """
import socket, sys
from pathlib import Path
import uvicorn
from matcher.serve.app import build_app
from matcher.serve.server import ServerSettings

if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    app = build_app(ServerSettings(Path(sys.argv[1]), train=sys.argv[2:]))
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
"""


@contextmanager
def server_process(data, training):
    """A server that is a process of its own, and a client of it; ``training`` is the command that trains."""
    program = data.parent / "serve.py"
    program.write_text(SERVER)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, program, data, *training]
    with subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        origin = f"http://127.0.0.1:{port}"
        with httpx.Client(
            base_url=origin, headers={**PAGE, "origin": origin}, follow_redirects=True, timeout=60
        ) as client:
            try:
                yield process, client
            finally:
                process.kill()


def find_training(data):
    """The process that trains, if there is one."""
    found = [
        p
        for p in psutil.process_iter(["cmdline"])
        if str(data) in " ".join(p.info["cmdline"] or []) and "--out" in p.info["cmdline"]
    ]
    return found[0] if found else None


def prepare(client, files):
    """Makes a project of some files and returns its key."""
    key = create(client)
    upload(client, key, {"toys.zip": zip_of(files)})
    client.post(f"/projects/{key}/incoming/take")
    return key


def wait_until_trained(client, key, number=1):
    """Waits until a version is finished."""
    wait_for(lambda: progress(client, key, number)["state"] in ("finished", "failed"), "the training")
    told = progress(client, key, number)
    assert told["state"] == "finished", client.get(f"/projects/{key}/versions/{number}/log.txt").text


@pytest.fixture(scope="session")
def trained(own, tmp_path_factory):
    """The data folder of a server with one project of one version. The processes of `pytest -n` share one training."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    data, whole = folder / "trained", folder / "trained.whole"
    with FileLock(folder / "trained.lock"):
        if not whole.exists():
            with start(own, data) as client:
                key = prepare(client, toys(own))
                client.post(f"/projects/{key}/train", data={"start": "nothing"})
                wait_until_trained(client, key)
            whole.touch()
    own_data = tmp_path_factory.mktemp("trained") / "data"
    shutil.copytree(data, own_data)
    return own_data
