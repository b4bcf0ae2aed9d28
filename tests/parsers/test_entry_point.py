"""The package that ``docs/parsers.md`` shows, installed and used."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]


def test_another_package_adds_a_parser(tmp_path):
    (module,) = re.findall(r"```python\n# colours.py\n(.*?)```", (ROOT / "docs/parsers.md").read_text(), re.DOTALL)
    (tmp_path / "colours.py").write_text(module)
    # What installing the package's setup.cfg leaves behind.
    installed = tmp_path / "colours-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[ernie_vil.parsers]\ncolours = colours:ColourParser\n")
    captions = tmp_path / "captions.jsonl"
    captions.write_text('{"image_id": "1", "caption": "a red ball"}\n')
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "pipeline.parse", str(captions), "--parser", "colours", "--out", "graphs"]
    done = subprocess.run([*command, "--workers", "1"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = pq.read_table(tmp_path / "graphs/part-00000.parquet").to_pylist()
    assert row["objects"] == [{"lemma": "ball", "start": 6, "end": 10, "mentions": [], "visible": 1}]
    assert row["attributes"] == [{"object": 0, "lemma": "red", "start": 2, "end": 5, "visible": 1}]
