"""The trainer as users start it: trained, killed, resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]

MODEL = {
    "vocab_size": 50, "max_position_embeddings": 32, "sent_type_vocab_size": 4, "hidden_size": 16,
    "num_attention_heads": 2, "v_feature_size": 8, "v_hidden_size": 16, "v_num_attention_heads": 2,
    "v_intermediate_size": 16, "co_hidden_size": 16, "co_num_attention_heads": 2, "t_biattention_id": [1],
    "v_biattention_id": [0], "class_size": 6, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}  # fmt: skip
RECIPE = "model: model.json\nsteps: 24\nbatch_size: 6\nmax_text: 16\nlog_every: 1\ncheckpoint_every: 8\nworkers: 1\n"


@pytest.fixture
def start(tmp_path, shard_folder):
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    (tmp_path / "recipe.yaml").write_text(RECIPE)

    def start(out, *options, launcher=(sys.executable,)):
        command = [*launcher, str(ROOT / "pretrain/run.py"), "--config", str(tmp_path / "recipe.yaml")]
        command += ["--shards", str(shard_folder), "--out", str(tmp_path / out), *options]
        environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
        environment |= {
            "OMP_NUM_THREADS": "1",
            "TORCH_EXTENSIONS_DIR": str(tmp_path / "compiled"),
            "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        }
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    return start


def finish(process):
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def losses(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "per_second" not in k} for line in lines]


def test_a_killed_run_resumes_to_the_same_weights(start, tmp_path):
    finish(start("whole"))
    killed = start("killed")
    latest = tmp_path / "killed/checkpoints/latest"
    while not latest.exists():
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    step = int(latest.read_text().removeprefix("step-"))
    assert step < 24
    refused = start("killed")
    output = refused.communicate(timeout=300)[0]
    assert refused.returncode == 1
    assert "--resume" in output
    changed = start("killed", "--resume", "--set", "seed=1")
    output = changed.communicate(timeout=300)[0]
    assert changed.returncode == 1
    assert "recipe.seed: 0 -> 1" in " ".join(output.split())
    finish(start("killed", "--resume"))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    whole, resumed = (load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all((whole[name] == resumed[name]).all() for name in whole)


def test_two_ranks_see_the_same_batches_and_learn_the_same(start, tmp_path):
    no_dropout = json.loads((tmp_path / "model.json").read_text())
    no_dropout |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "model.json").write_text(json.dumps(no_dropout))
    finish(start("one", "--set", "steps=6"))
    finish(start("two", "--set", "steps=6", launcher=("deepspeed", "--num_gpus", "2")))
    finish(start("accumulated", "--set", "steps=6", "--set", "accumulation=3", "--set", "zero_stage=1"))
    one = losses(tmp_path / "one")
    for other in (losses(tmp_path / "two"), losses(tmp_path / "accumulated")):
        assert len(one) == len(other) == 6
        for mine, theirs in zip(one, other, strict=True):
            assert mine == pytest.approx(theirs, rel=2e-3)
    assert not (tmp_path / "compiled").exists(), "a process killed while compiling blocks all later runs"


def test_bad_input_is_refused_without_a_traceback(start, tmp_path, shard_folder):
    for options, message in (
        (["--set", "stepz=3"], "stepz"),
        (["--set", "steps"], "expected key=value"),
        (["--shards", str(tmp_path)], "no manifest.json"),
    ):
        process = start("bad", *options)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 1
        assert message in output
        assert "Traceback" not in output


def test_a_run_is_compared_with_other_images_and_with_text_alone(start, tmp_path, shard_folder):
    finish(start("images", "--set", "steps=3"))
    finish(start("text", "--set", "steps=3", "--set", "images=none"))
    command = [sys.executable, "-m", "pretrain.report", "images", "--config", "recipe.yaml", "--text-only", "text"]
    command += ["--held-out", str(shard_folder), "--out", "report"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert set(report) == {"own image", "other image", "text only"}
    assert {"object", "word", "region", "match"} <= set(report["own image"])
    assert "region" not in report["text only"]
    for scores in report.values():
        for result in scores.values():
            assert 0 <= result["accuracy"] <= 1
            assert result["targets"] > 0
    assert (tmp_path / "report/losses.png").read_bytes().startswith(b"\x89PNG")
    command[3] = "nowhere"
    failed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr


def test_the_text_stream_starts_from_another_model(start, tmp_path):
    process = start("bad", "--set", "steps=1", "--init-text-from", str(tmp_path))
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1
    assert "holds neither model.safetensors nor pytorch_model.bin" in " ".join(output.split())
