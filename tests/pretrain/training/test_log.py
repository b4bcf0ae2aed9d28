"""What a run logs."""

import os
import subprocess
import sys


def test_weights_and_biases(runs):
    wandb_missing = subprocess.run([sys.executable, "-c", "import wandb"], capture_output=True).returncode != 0
    os.environ["WANDB_MODE"] = "offline"
    launch = runs.start("wandb", "wandb_project=scenes", "steps=3")
    del os.environ["WANDB_MODE"]
    if wandb_missing:
        launch.fail("pip install 'ernie-vil-pytorch[wandb]'")
    else:
        launch.succeed()
        assert list((runs.folder / "wandb/wandb").glob("offline-run-*/*.wandb"))
