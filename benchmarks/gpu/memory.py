"""The check of a step that needs more memory than there is."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmarks.gpu.generated import readers, shard_folder, write_recipe
from benchmarks.gpu.steps import Findings, Setting, Skip
from benchmarks.gpu.trainer import train

GIGABYTES = 3.0
"""Memory that the run may use: a batch that fills a whole card would take a minute to read."""
PAIRS, STEPS = 2048, 4
LEVERS = "batch_size", "tokens", "accumulation", "gradient_checkpointing", "zero_stage", "offload_optimizer"


def out_of_memory(setting: Setting, findings: Findings) -> None:
    """Checks that a run whose step does not fit names the levers in one line, and goes on when one was pulled."""
    if setting.device == "cpu":
        raise Skip("a CPU has no allocator that says no")
    recipe, shards, out = setting.scratch / "full.yaml", shard_folder(setting), setting.scratch / "full"
    write_recipe(
        recipe, "tiny", steps=STEPS, batch_size=PAIRS, passes=[10], checkpoint_every=STEPS // 2, workers=readers(PAIRS),
        precision="fp32",
    )  # fmt: skip
    fits = "accumulation=32"
    train(setting, recipe, shards, out, fits, before=_limit).succeed()
    (out / "checkpoints/latest").write_text(f"step-{STEPS // 2}")  # as if it had gone no further
    before = _checksums(out / "checkpoints")
    run = train(setting, recipe, shards, out, "accumulation=1", resume=True, before=_limit)
    messages = [line for line in run.output.splitlines() if "error:" in line]
    findings.figures |= {"exit code": run.code, "message": messages[0] if messages else "none"}
    assert run.code == 1, f"the run has ended with exit code {run.code}"
    assert len(messages) == 1, f"not one line but {len(messages)}"
    missing = [lever for lever in LEVERS if lever not in messages[0]]
    assert not missing, f"the message does not name {', '.join(missing)}"
    assert "Traceback" not in run.output, "there is a traceback beside the message"
    assert _checksums(out / "checkpoints") == before, "the checkpoints have changed"
    resumed = train(setting, recipe, shards, out, fits, resume=True, before=_limit).succeed()
    findings.figures["steps after it was resumed"] = len(resumed.lines())


def _limit() -> None:
    import torch

    torch.cuda.set_per_process_memory_fraction(GIGABYTES * 1e9 / torch.cuda.get_device_properties(0).total_memory)


def _checksums(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
