import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from parsers.command import InputError
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.extract.images import recognise_pictures
from pipeline.parse.stage import ParseStage
from pipeline.statistics.benchmark import read_pictures
from pipeline.statistics.stage import StatisticsStage
from tests.pipeline.duplicates.pictures import draw

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


def test_what_repeats_and_what_a_benchmark_has_is_listed(weights, tmp_path):
    long = "a red bus with two levels stops at the corner of a wet street"
    graphs = parse(tmp_path / "a", [long, "two dogs", f"{long}.", "a cat"])
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        draw(number).save(pictures / f"{number}.png")
    draw(0).resize((160, 120)).save(pictures / "copy.jpg", quality=60)
    regions = tmp_path / "regions"
    run("extract", pictures, "--detector", "toyworld", "--weights", weights, "--workers", "1", "--out", regions)
    benchmark = tmp_path / "test"
    benchmark.mkdir()
    draw(1).resize((200, 150)).save(benchmark / "x.jpg")
    split = [
        {"cocoid": 7, "split": "test", "sentences": [{"sentid": 1, "raw": f"{long} today"}]},
        {"cocoid": 8, "split": "train", "sentences": [{"sentid": 2, "raw": "a cat"}]},
    ]
    (tmp_path / "karpathy.json").write_text(json.dumps({"images": split}))
    out = tmp_path / "out"
    options = ("--benchmark-captions", tmp_path / "karpathy.json", "--benchmark-pictures", benchmark)
    printed = run("statistics", graphs, "--regions", regions, *options, "--workers", "1", "--out", out)
    assert "benchmark: 1 caption of" in printed
    groups = [(row["kind"], row["image_id"]) for row in pq.read_table(out / "near-duplicates.parquet").to_pylist()]
    assert groups == [("captions", "0"), ("captions", "2"), ("pictures", "0"), ("pictures", "copy")]
    assert json.loads((out / "contaminated-by-captions.json").read_text()) == ["0", "2"]
    assert json.loads((out / "contaminated-by-pictures.json").read_text()) == ["1"]
    rows = pq.read_table(out / "contamination.parquet").to_pylist()
    assert [(row["kind"], row["image_id"], row["benchmark_image_id"]) for row in rows] == [
        ("captions", "0", "7"),
        ("captions", "2", "7"),
        ("pictures", "1", "x"),
    ]
    statistics = json.loads((out / "report.json").read_text())["statistics"]
    assert statistics["captions that nearly repeat others"] == 2
    assert statistics["pictures that were compared"] == 4
    assert statistics["images with pictures of the benchmark"] == 1


def run(*arguments):
    command = [sys.executable, "-m", f"pipeline.{arguments[0]}", *map(str, arguments[1:])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_cannot_be_compared_is_said(tmp_path):
    graphs = parse(tmp_path / "a", ["a cat"])
    (tmp_path / "picture.png").write_bytes(b"no picture")
    with pytest.raises(AssertionError, match="needs --regions"):
        run("statistics", graphs, "--benchmark-pictures", tmp_path / "picture.png", "--out", tmp_path / "out")
    with pytest.raises(AssertionError, match="holds no hashes/ of pictures"):
        run("statistics", graphs, "--regions", graphs, "--out", tmp_path / "out")
    with pytest.raises(InputError, match=r"picture\.png: holds no picture that can be read"):
        read_pictures([recognise_pictures(tmp_path / "picture.png", "auto", None)[0]])
