"""Checkpoints of real runs: damaged, interrupted, and written while training goes on."""

import resource
import shutil
import signal
import subprocess

import pytest
import torch

from parsers.command import InputError
from pretrain.training.checkpoints import Checkpoints
from pretrain.training.distributed import DistributedContext
from tests.pretrain.runs import assert_undisturbed, copy_until, while_writing


def test_a_damaged_checkpoint_is_refused_and_an_earlier_one_is_named(runs):
    checkpoints = copy_until(runs, "damaged", 24)
    file = checkpoints / "step-24/mp_rank_00_model_states.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    output = runs.start("damaged", "--resume").fail("step-24: is damaged: mp_rank_00_model_states.pt (differs)")
    advice = " ".join(output.split()).split("run: ")[1]
    assert subprocess.run(advice, shell=True).returncode == 0
    runs.start("damaged", "--resume").succeed()
    assert_undisturbed(runs, "damaged")


def test_a_checkpoint_of_a_stranger_runs_no_code(play):
    """Of each stage of ZeRO; every file of it, on as many ranks and, through the conversion, on another number."""
    output = play("hostile", 1).succeed()
    model, optimizer = "mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    partitioned = f"zero_pp_rank_0_{model}"
    files = [model, model, optimizer, model, optimizer, partitioned, optimizer, model, f"bf16_{optimizer}"]
    refused = [line for line in output.splitlines() if "asks for posix.mkdir, which a checkpoint does not need" in line]
    assert len(refused) == len(files) * 2 - 1, output
    assert {line.split()[0] for line in refused} == set(files)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("checkpoint.json", "[" * 100_000, "checkpoint.json: is damaged"),
        ("checkpoint.json", "null", "checkpoint.json: is damaged"),
        ("checkpoint.json", '{"step": 1, "ranks": 1e999, "state": {}, "identity": [], "files": 7}', "ranks: "),
        ("../latest", "../elsewhere", "latest: names no checkpoint"),
        ("../latest", "", "latest: names no checkpoint"),
    ],
)
def test_a_record_of_anything_else_is_refused(tmp_path, name, text, message):
    folder = tmp_path / "step-4"
    (tmp_path / "step-four").mkdir()
    folder.mkdir()
    (tmp_path / "latest").write_text("step-4")
    (folder / name).write_text(text)
    world = DistributedContext(0, 1, torch.device("cpu"))
    with pytest.raises(InputError, match=message):
        Checkpoints(tmp_path, keep=1, fingerprint={}, world=world).find()


def test_a_full_disk_loses_nothing(runs):
    checkpoints = copy_until(runs, "full", 20)
    shutil.rmtree(checkpoints / "step-24")
    before = {path: path.read_bytes() for path in checkpoints.rglob("*") if path.is_file()}
    limit = (checkpoints / "step-20/mp_rank_00_model_states.pt").stat().st_size // 2

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    runs.start("full", "--resume", preexec_fn=limit_files).fail("step-24: cannot be written", "continue with --resume")
    assert {path: path.read_bytes() for path in before} == before
    assert [path.name for path in checkpoints.glob("step-*")] == ["step-20"]
    runs.start("full", "--resume").succeed()
    assert_undisturbed(runs, "full")
    assert not list(checkpoints.glob(".*"))


def test_training_goes_on_while_a_checkpoint_is_written(runs):
    at = "def at(step, rank): assert step != 4 or later.wait(100), 'no step was taken meanwhile'"
    while_writing(runs, "meanwhile", at).succeed()
    assert_undisturbed(runs, "meanwhile")


@pytest.mark.parametrize(("ranks", "settings"), [(1, []), pytest.param(2, ["zero_stage=1"], marks=pytest.mark.slow)])
def test_a_run_killed_while_a_checkpoint_is_written_has_the_one_before(runs, ranks, settings):
    out = f"writing-{ranks}"
    at = f"def at(step, rank): (step, rank) == (8, {ranks - 1}) and os.kill(os.getpid(), signal.SIGKILL)"
    launch = while_writing(runs, out, at, *settings, ranks=ranks)
    assert launch.processes[-1].wait(timeout=300) == -signal.SIGKILL
    launch.kill()
    checkpoints = runs.folder / out / "checkpoints"
    assert (checkpoints / "latest").read_text() == "step-4"
    assert [path.name for path in checkpoints.glob("step-*")] == ["step-4"]
    runs.start(out, *settings, "--resume", ranks=ranks).succeed()
    assert not list(checkpoints.glob(".*"))
    if settings:
        runs.start(f"undisturbed-{out}", *settings, ranks=ranks).succeed()
        assert runs.metrics(out) == runs.metrics(f"undisturbed-{out}")
    else:
        assert_undisturbed(runs, out)


def test_a_checkpoint_that_one_rank_cannot_write_ends_all_of_them(runs):
    at = """
def at(step, rank):
    if (step, rank) == (4, 1):
        raise OSError("the disk is gone")
"""
    launch = while_writing(runs, "gone", at, "zero_stage=1", "checkpoint_every=2", ranks=2)
    launch.fail("step-4: cannot be written: the disk is gone; make room and continue with --resume")
    assert (runs.folder / "gone/checkpoints/latest").read_text() == "step-2"
