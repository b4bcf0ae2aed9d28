"""What may happen to a running stage: it is killed, the disk is full, the folder cannot be written."""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline.toyworld.network import build_network
from tests.pipeline.outputs import contents

ROOT = Path(__file__).parents[3]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
IMAGES = 150
STAGES = ("parse", "regions", "pack", "extract")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Captions, features and a vocabulary."""
    folder = tmp_path_factory.mktemp("world")
    values = np.random.default_rng(0)
    words = ["a", "red", "dog", "on", "the", "table", "man", "with", "hat"]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in [*SPECIAL, *words]))
    with (folder / "captions.jsonl").open("w") as stream:
        for n in range(4 * IMAGES):
            text = f"a red dog number {n} on the table and a man with a hat"
            stream.write(json.dumps({"image_id": str(n // 4), "caption": text}) + "\n")
    (folder / "features").mkdir()
    for number in range(IMAGES):
        n = 1 + number % 20
        low = values.uniform(0, 50, (n, 2))
        np.savez(
            folder / "features" / f"{number:04d}.npz",
            image_id=str(number),
            image_width=100,
            image_height=100,
            num_boxes=n,
            bbox=np.concatenate([low, low + 10], axis=1).astype(np.float32),
            features=values.standard_normal((n, 256)).astype(np.float32),
            cls_prob=values.dirichlet(np.ones(400), n).astype(np.float32),
        )
    (folder / "pictures").mkdir()
    for number in range(30):
        pixels = values.integers(0, 256, (60 + number % 3, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
    torch.manual_seed(0)
    save_file(build_network().state_dict(), folder / "detector.safetensors")
    return folder


def command(stage, world, out, workers=2):
    inputs = {
        "parse": [str(world / "captions.jsonl"), "--partition-size", "40"],
        "regions": [str(world / "features"), "--partition-size", "10"],
        "pack": [
            *("--graphs", str(world / "parse"), "--regions", str(world / "regions")),
            *("--tokenizer", str(world / "vocab.txt"), "--held-out-share", "0.2", "--shard-size", "10"),
        ],
        "extract": [
            *(str(world / "pictures"), "--partition-size", "4", "--preview", "6"),
            *("--detector", "toyworld", "--weights", str(world / "detector.safetensors")),
        ],
    }[stage]
    return [sys.executable, "-m", f"pipeline.{stage}", *inputs, "--out", str(out), "--workers", str(workers)]


def run(arguments, **options):
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="module")
def undisturbed(world):
    """What each stage writes."""
    found = {}
    for stage in STAGES:
        done = run(command(stage, world, world / stage))
        assert done.returncode == 0, done.stdout + done.stderr
        found[stage] = contents(world / stage)
    return found


def count_files(out):
    """How many files there are, those included that are still being written."""
    return sum(path.is_file() for path in out.rglob("*"))


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_random_moments_a_stage_ends_in_the_same_bytes(stage, kills, world, undisturbed, tmp_path):
    """A moment is that in which the stage has begun to write one of its files."""
    expected, out = undisturbed[stage], tmp_path / "out"
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    for _ in range(kills):
        there = count_files(out)
        moment = there + moments.randint(1, max(1, len(expected) - there))
        with subprocess.Popen(command(stage, world, out), cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and count_files(out) < moment:
                time.sleep(0.002)
            workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
        assert not psutil.wait_procs(workers, timeout=30)[1], "workers outlive the stage"
        if kills > 2 and moments.random() < 0.3:
            shutil.rmtree(out, ignore_errors=True)  # else the first kills would leave little to be killed in
    done = run(command(stage, world, out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(out) == expected, f"moments of the seed {seed}"


def test_a_full_disk_leaves_finished_parts_valid(world, undisturbed, tmp_path):
    out = tmp_path / "disk"
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(out)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be had: {mounted.stderr.decode().strip()}")
    try:
        # The estimate that is checked beforehand knows nothing of what others write meanwhile.
        script = "import sys; from pipeline.execution import executor; from pipeline.regions.__main__ import app; "
        script += "from parsers.command import run; executor.check_free_disk = lambda *_: None; run(app)"
        arguments = command("regions", world, out / "out", workers=1)
        done = run([sys.executable, "-c", script, *arguments[3:]])
        assert done.returncode == 1, done.stdout + done.stderr
        assert "No space left on device" in done.stderr
        assert "Finished parts are kept" in done.stderr
        assert "Traceback" not in done.stderr
        kept = contents(out / "out")
        whole = {name: data for name, data in kept.items() if name.startswith("part-")}
        assert whole
        assert all(undisturbed["regions"][name] == data for name, data in whole.items())
        assert not [name for name in kept if name.endswith(".tmp")]
        refused = run(arguments)
        assert refused.returncode == 1
        assert "free; make room" in refused.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", str(out)], check=True)
        done = run(arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert contents(out / "out") == undisturbed["regions"]
    finally:
        subprocess.run(["umount", "--lazy", str(out)], check=True)


def test_a_folder_without_write_permission_is_an_error(world, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for folder in {tmp_path, *tmp_path.parents, *world.parents, world, world / "features"}:
        if not folder.stat().st_mode & 0o001:  # pytest keeps them to itself
            folder.chmod(0o755)
    # Root ignores permissions, so it becomes nobody; a first run has imported by then what nobody may not read.
    script = (
        "import os, sys; from pipeline.regions.__main__ import app; from parsers.command import run; "
        f"app([*sys.argv[1:-1], {str(tmp_path / 'out')!r}], standalone_mode=False); "
        "os.getuid() == 0 and (os.setgid(65534), os.setuid(65534)); run(app)"
    )
    source, *_ = command("regions", world, "")[3:]
    done = run([sys.executable, "-c", script, source, "--workers", "1", "--out", str(closed / "out")])
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{closed / 'out'}: cannot be written" in done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
