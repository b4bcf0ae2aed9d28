import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.parse.stage import ParseStage
from pipeline.statistics.stage import StatisticsStage

ROOT = Path(__file__).parents[3]
TEXTS = ["a red bus on the street", "two dogs", "a red bus near a dog", "", "!", "the dog's hat"]


def parse(folder, texts):
    source = folder.with_suffix(".jsonl")
    source.write_text("".join(json.dumps({"image_id": str(n), "caption": t}) + "\n" for n, t in enumerate(texts)))
    run_stage(ParseStage(((source, "jsonl"),), "neural", "1", 2), folder, Engine(), max_rejects=1, overwrite=False)
    return folder


def test_nodes_are_counted_over_parts_and_folders(tmp_path):
    folders = [parse(tmp_path / "a", TEXTS), parse(tmp_path / "b", TEXTS[:2])]
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline.statistics", *map(str, folders), "--out", str(out), "--workers", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [
        row
        for folder in folders
        for part in sorted(folder.glob("*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]
    expected = Counter((kind, node["lemma"]) for row in rows for kind in KINDS for node in row[kind])
    table = pq.read_table(out / "nodes.parquet").to_pylist()
    assert {(row["kind"], row["lemma"]): row["count"] for row in table} == expected
    counts = [row["count"] for row in table if row["kind"] == "objects"]
    assert counts == sorted(counts, reverse=True)
    statistics = json.loads((out / "report.json").read_text())["statistics"]
    for kind in KINDS:
        assert statistics[f"captions with {kind}"] == sum(bool(row[kind]) for row in rows)
        assert statistics[kind] == sum(len(row[kind]) for row in rows)
    assert statistics["words"] == sum(len(row["caption"].split()) for row in rows)
    share = statistics["captions with relations"] / len(rows)
    assert f"{share:.1%} of the captions have relations" in done.stdout
    assert Image.open(out / "nodes.png").size == (1600, 600)


KINDS = ("objects", "attributes", "relations")


def test_captions_without_nodes_are_no_error(tmp_path):
    out = tmp_path / "out"
    run_stage(StatisticsStage((parse(tmp_path / "a", ["!", "?"]),)), out, Engine(), max_rejects=0, overwrite=False)
    assert len(pq.read_table(out / "nodes.parquet")) == 0
