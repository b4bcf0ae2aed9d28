"""Small pictures, and the command that finds their regions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from typer.testing import CliRunner

from pipeline.extract.__main__ import app
from shards.regions.table import RegionsInfo, read_rows
from shards.stage_folder import parts_of

ROOT = Path(__file__).parents[3]
SIZES = [(80, 60), (60, 80), (96, 64), (80, 60), (64, 64), (80, 60), (96, 64), (50, 100), (80, 60)]


def noise(number, size):
    values = np.random.default_rng(number)
    small = Image.fromarray(values.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def extract(*arguments, weights=None, code=0):
    given = [] if weights is None else ["--detector", "toyworld", "--weights", weights]
    given += [] if weights is None or "--boxes" in arguments else ["--min-boxes", 5]
    result = CliRunner().invoke(app, [str(value) for value in (*arguments, *given)])
    if code == 0:
        assert result.exit_code == 0, result.output + repr(result.exception)
    return result


def rows_of(out):
    info = RegionsInfo.from_file(parts_of(out)[0])
    return {row.image_id: row for part in parts_of(out) for row in read_rows(pq.read_table(part), info.feature_size)}


def rejects_of(out):
    files = sorted((out / "rejects").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def run(*command, cwd):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
