"""The queue of trainings, with a training that does what a file says."""

import sys

import psutil
import pytest

from matcher.serve.projects.store import Contents, ProjectPicture, Store
from matcher.serve.training.jobs import Jobs, is_stopping
from parsers.command import InputError
from tests.matcher.serve.conftest import wait_for

FAKE = """
import signal, sys, time
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(exist_ok=True)
def stop(*_):
    with (out / "stopped").open("a") as file:
        file.write("x")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("hello from", *sys.argv[1:], flush=True)
(out / "ready").touch()
while not (order := out / "order").is_file() or not order.read_text():
    time.sleep(0.01)
if order.read_text() == "crash":
    print("error: the disk is full", flush=True)
    sys.exit(1)
for path in ("model/model.safetensors", "report/figures.json"):
    (out / path).parent.mkdir(exist_ok=True)
    (out / path).write_text("{}")
(out / "run.yaml").write_text("made_of: {}\\nresults: {}\\n")
"""


class Queue:
    """A queue in a folder, which is driven step by step."""

    def __init__(self, folder):
        self.store = Store(folder)
        self.jobs = self.restart()

    def restart(self):
        """A server starts again: it knows only what lies on the disk."""
        self.jobs = Jobs(self.store, [sys.executable, "-S", "-c", FAKE])
        self.jobs.find_running()
        return self.jobs

    def project(self, name):
        project = self.store.create(name)
        project.pictures.mkdir()
        (project.pictures / "1.png").touch()
        picture = ProjectPicture(
            image_id="1", file="1.png", name="1.png", sha256="0" * 64, width=9, height=9, captions=("a",)
        )
        project.save_contents(Contents(pictures=(picture,)))
        return project

    def until(self, version, *states):
        """Drives the queue until a version is in a state."""

        def look():
            self.jobs.step()
            return version.job.state in states

        wait_for(look, f"{states}, not {version.job}")

    def begin(self, version):
        """Drives the queue until a version trains."""
        self.until(version, "running")
        wait_for(lambda: (version.matcher / "ready").is_file(), "the training to begin")

    def end(self, version, how="finish"):
        (version.matcher / "order").write_text(how)
        self.until(version, "finished", "failed")


@pytest.fixture
def queue(tmp_path):
    """A queue that leaves no process behind."""
    found = Queue(tmp_path)
    yield found
    for project in found.store.list_projects():
        found.jobs.kill(project)


def test_one_trains_at_a_time_and_the_others_wait_in_their_order(queue):
    a, b = queue.project("A"), queue.project("B")
    first = queue.jobs.add(a, None, "", given_regions=False)
    second = queue.jobs.add(b, "/models/x", "x", given_regions=False)
    third = queue.jobs.add(a, None, "", given_regions=False)
    queue.begin(first)
    queue.jobs.step()
    assert [version.job.state for version in (first, second, third)] == ["running", "queued", "queued"]
    assert [version.number for _, version in queue.jobs.queue()] == [1, 2]
    queue.end(first)
    assert a.record.in_use == 1
    assert not first.pictures.exists()
    queue.begin(second)
    assert "--start /models/x" in second.log.read_text()
    queue.end(second)
    queue.begin(third)
    queue.end(third)
    assert a.record.in_use == 1  # a new version answers when it is chosen


def test_a_training_is_stopped_and_goes_on(queue):
    version = queue.jobs.add(queue.project("A"), None, "", given_regions=False)
    queue.begin(version)
    queue.jobs.stop(version)
    assert is_stopping(version)
    wait_for(lambda: queue.jobs.step() or not is_stopping(version), "the training to stop")
    assert (version.matcher / "stopped").read_text() == "x"
    assert version.job.state == "stopped"
    queue.jobs.resume(version)
    queue.begin(version)
    queue.end(version)
    assert version.job.state == "finished"


def test_one_that_waits_is_taken_out_of_the_queue(queue):
    version = queue.jobs.add(queue.project("A"), None, "", given_regions=False)
    queue.jobs.stop(version)
    queue.jobs.step()
    assert version.job.state == "stopped"
    assert not version.log.exists()


def test_a_crash_is_a_message_and_the_next_one_trains(queue):
    project = queue.project("A")
    first, second = (queue.jobs.add(project, None, "", given_regions=False) for _ in range(2))
    queue.begin(first)
    queue.end(first, "crash")
    assert first.job.message == "the disk is full"
    queue.begin(second)
    queue.end(second)
    assert project.record.in_use == 2


def test_a_killed_training_is_said_to_be_killed(queue):
    version = queue.jobs.add(queue.project("A"), None, "", given_regions=False)
    queue.begin(version)
    queue.jobs._running.process.kill()
    queue.until(version, "failed")
    assert "SIGKILL" in version.job.message


def test_a_server_that_starts_again_finds_its_training(queue):
    version = queue.jobs.add(queue.project("A"), None, "", given_regions=False)
    queue.begin(version)
    child = queue.jobs._running.child
    queue.restart()
    queue.jobs.step()
    assert version.job.state == "running"
    assert queue.jobs._running.process.pid == child.pid
    assert version.log.read_text().count("hello") == 1
    (version.matcher / "order").write_text("finish")
    child.wait()
    queue.until(version, "finished")


def test_a_training_that_died_with_its_server_goes_on(queue):
    version = queue.jobs.add(queue.project("A"), None, "", given_regions=False)
    queue.begin(version)
    child = queue.jobs._running.child
    child.kill()
    child.wait()
    queue.restart()
    assert version.job.state == "queued"
    queue.until(version, "running")
    wait_for(lambda: version.log.read_text().count("hello") == 2, "the training to begin again")


def test_a_training_that_ended_while_no_server_ran_is_finished(queue):
    version = queue.jobs.add(queue.project("A"), None, "", given_regions=False)
    queue.begin(version)
    child = queue.jobs._running.child
    (version.matcher / "order").write_text("finish")
    child.wait()
    queue.restart()
    assert version.job.state == "finished"


def test_a_deleted_project_trains_no_longer(queue):
    project = queue.project("A")
    version = queue.jobs.add(project, None, "", given_regions=False)
    queue.begin(version)
    child = queue.jobs._running.child
    queue.jobs.kill(project)
    queue.store.delete(project)
    queue.jobs.step()
    assert not psutil.pid_exists(child.pid)
    assert queue.jobs._running is None


def test_an_empty_project_cannot_be_trained(queue):
    with pytest.raises(InputError, match="no pictures with captions"):
        queue.jobs.add(queue.store.create("empty"), None, "", given_regions=False)
