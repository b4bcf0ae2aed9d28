"""The stage: its table, and that neither workers nor a kill change a byte of it."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsers.command import InputError
from parsers.graph import SceneGraph
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.negatives.stage import NegativesStage
from shards.negatives.table import read_false_captions
from shards.schema import NEGATIVE_KINDS, Caption
from tests.pipeline.negatives.captions import graph_of
from tests.pipeline.outputs import contents
from tests.pipeline.pack.tables import graphs_folder

ROOT = Path(__file__).parents[3]


def caption_rows(images):
    """Two captions of each image, which lie apart from each other."""
    first = graph_of("A man on a red bus", ["man", "bus"], [(1, "red")], [(0, "on", 1)])
    second = graph_of("two dogs next to a table", ["dogs", "table"], [(0, "two")], [(0, "next to", 1)])
    return [
        (f"i{number}", Caption(f"{number}-{place}", graph.caption, graph))
        for place, graph in enumerate((first, second))
        for number in range(images)
    ]


def make(tmp_path, graphs, out="out", workers=1, **options):
    stage = NegativesStage((graphs,), tmp_path / out, **{"partition_size": 6, **options})
    report = run_stage(stage, tmp_path / out, Engine(workers=workers), max_rejects=0, overwrite=False)
    return tmp_path / out, report


def read(folder):
    return [row for part in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


def test_each_row_is_a_false_caption_with_its_graph(tmp_path):
    rows = caption_rows(5)
    graphs = graphs_folder(tmp_path / "graphs", rows[:3], rows[3:])
    out, report = make(tmp_path, graphs)
    found = read(out)
    true = {(image_id, caption.text): caption for image_id, caption in rows}
    assert {row["kind"] for row in found} >= {
        "replace_object",
        "replace_attribute",
        "replace_relation",
        "add_attribute",
    }
    for row in found:
        graph = SceneGraph.from_dict(row["caption"], row["graph"])
        caption = true[row["image_id"], row["true_caption"]]
        assert row["caption_id"] == caption.caption_id
        assert row["caption"] != caption.text
        assert row["kind"] in NEGATIVE_KINDS
        assert row["spans"]
        assert graph.to_dict() != caption.graph.to_dict()
    assert len({row["negative_id"] for row in found}) == len(found) == report.statistics["false captions"]
    assert report.statistics["rows"] == 10
    assert report.parts == 2  # an image is not divided
    parts = [{row["image_id"] for row in pq.read_table(part).to_pylist()} for part in sorted(out.glob("*.parquet"))]
    assert parts[0].isdisjoint(parts[1])


def test_kinds_and_their_number_can_be_chosen(tmp_path):
    graphs = graphs_folder(tmp_path / "graphs", caption_rows(2))
    out, _ = make(tmp_path, graphs, kinds=("replace_object",), per_kind=3)
    found = read(out)
    assert {row["kind"] for row in found} == {"replace_object"}
    assert len(found) == 12
    texts = read_false_captions(out)
    assert sorted(text for of_one in texts.values() for text in of_one) == sorted(row["caption"] for row in found)
    assert texts.keys() == {("i0", "0-0"), ("i1", "1-0"), ("i0", "0-1"), ("i1", "1-1")}


def test_captions_of_several_segments_have_no_false_ones(tmp_path):
    graphs = graphs_folder(tmp_path / "graphs", caption_rows(1))
    part = graphs / "part-00000.parquet"
    table = pq.read_table(part)
    place = table.schema.get_field_index("segments")
    segments = pa.array([[5], None], table.schema.field("segments").type)
    changed = table.set_column(place, table.schema.field("segments"), segments)
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), part)
    out, _ = make(tmp_path, graphs)
    assert {row["caption_id"] for row in read(out)} == {"0-1"}


def test_workers_and_a_lost_part_change_no_byte(tmp_path):
    rows = caption_rows(12)
    graphs = graphs_folder(tmp_path / "graphs", rows[:7], rows[7:])
    one, _ = make(tmp_path, graphs)
    two, _ = make(tmp_path, graphs, out="two", workers=2)
    assert len(contents(one)) > 8
    assert {k: v for k, v in contents(one).items() if k != "stage.json"} == {
        k: v for k, v in contents(two).items() if k != "stage.json"
    }
    before = contents(one)
    (one / "part-00001.stats.json").unlink()
    _, report = make(tmp_path, graphs)
    assert report.skipped == report.parts - 1
    assert contents(one) == before


def test_another_seed_makes_others_and_is_refused_in_the_same_folder(tmp_path):
    graphs = graphs_folder(tmp_path / "graphs", caption_rows(6))
    out, _ = make(tmp_path, graphs)
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        make(tmp_path, graphs, seed=1)
    other, _ = make(tmp_path, graphs, out="other", seed=1)
    assert [row["caption"] for row in read(out)] != [row["caption"] for row in read(other)]


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    graphs = graphs_folder(tmp_path / "graphs", caption_rows(30))
    command = [sys.executable, "-m", "pipeline.negatives", str(graphs), "--partition-size", "6", "--workers", "1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, "--out", str(whole)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    expected = contents(whole)
    process = subprocess.Popen([*command, "--out", str(killed)], cwd=ROOT, stdout=subprocess.DEVNULL)
    wanted = random.Random(0).randint(1, 8)
    deadline = time.monotonic() + 120
    while len(list(killed.glob("*.stats.json"))) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    subprocess.run([*command, "--out", str(killed)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert contents(killed) == expected
    assert json.loads((killed / "report.json").read_text())["statistics"]["rows"] == 60


def test_a_folder_that_is_no_graphs_is_refused(tmp_path):
    with pytest.raises(InputError, match="no stage wrote it"):
        make(tmp_path, tmp_path / "nothing")
    assert not list(tmp_path.glob("out/part-*"))
