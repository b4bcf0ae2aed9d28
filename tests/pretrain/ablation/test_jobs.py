"""Jobs run side by side, and none outlives another's failure."""

import os

import pytest

from parsers.command import InputError
from pretrain.ablation.jobs import run_jobs

WRITE = "import sys; print('made', sys.argv[1]); open(sys.argv[1], 'a').write('x')"
# A pipe that nobody writes to: this one ends when it is ended.
WAIT = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.read(os.pipe()[0], 1)"
# It fails as soon as the other one waits.
FAIL = "import os, sys\nwhile not os.path.exists(sys.argv[1]): pass\nsys.exit('broken')"


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    for name, code in (("write", WRITE), ("wait", WAIT), ("fail", FAIL)):
        (tmp_path / f"job_{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_the_commands_of_a_job_run_in_order_and_fill_its_log(tmp_path):
    jobs = {name: [["job_write", str(tmp_path / name)]] * 2 for name in ("a", "b", "c")}
    run_jobs(jobs, tmp_path, title="jobs", workers=2)
    for name in jobs:
        assert (tmp_path / name).read_text() == "xx"
        assert (tmp_path / f"{name}.log").read_text() == f"made {tmp_path / name}\n" * 2


def test_a_job_that_fails_ends_the_others(tmp_path):
    process = tmp_path / "pid"
    jobs = {
        "bad": [["job_fail", str(process)], ["job_write", str(tmp_path / "never")]],
        "long": [["job_wait", str(process)]],
        "later": [["job_write", str(tmp_path / "never")]],
    }
    with pytest.raises(InputError, match=r"python -m job_fail failed; .*bad\.log says why"):
        run_jobs(jobs, tmp_path, title="jobs", workers=2)
    assert "broken" in (tmp_path / "bad.log").read_text()
    assert not (tmp_path / "never").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(process.read_text()), 0)
