"""The page of all benchmarks, and the file that each leaves."""

import json
import math
from pathlib import Path

import pytest
from rich.table import Table

from benchmarks.results import PARTS, compare, make_page, publish
from parsers.command import InputError

ROOT = Path(__file__).resolve().parents[2]


def results(folder, name, **changes):
    table = Table("", "ours s", "peer s")
    table.add_row("read", "2.0", "5.0")
    lines = [compare("read", "peer 1.2", [2.0, 1.0, 4.0], [5.0, 4.0, 6.0], fair="the same file.", **changes)]
    publish([table, "a line below it"], lines, folder / f"{name}.json")


def test_a_line_has_the_medians_and_the_lowest_and_highest_of_all_rounds(tmp_path):
    results(tmp_path, "shards", clock="wall", unit="ms", scale=1000)
    page = make_page(tmp_path)
    assert "| read | peer 1.2 | wall | 2,000 (1,000–4,000) ms | 5,000 (4,000–6,000) ms | **2.5 (1.5–4)** |" in page
    assert "- **read**, beside peer 1.2: the same file." in page


def test_each_part_says_when_where_and_on_which_commit_it_was_measured(tmp_path):
    results(tmp_path, "shards")
    path = tmp_path / "shards.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"date": "2026-01-02", "commit": "abc", "machine": "M"}))
    results(tmp_path, "parse")
    page = make_page(tmp_path)
    assert "`python -m benchmarks.shards`, 2026-01-02, commit abc: M." in page
    assert page.index("benchmarks.parse`, 20") < page.index("benchmarks.shards`, 20"), "not in the order of the page"
    assert "a line below it\n```" in page


def test_comparisons_of_which_the_same_is_said_stand_together(tmp_path):
    lines = [compare(what, "peer", [1.0], [2.0], fair="the same file.") for what in ("read", "write")]
    publish([], lines, tmp_path / "shards.json")
    assert "- **read**, beside peer; **write**, beside peer: the same file.\n" in make_page(tmp_path)


def test_what_was_too_short_to_time_is_a_dash(tmp_path):
    publish([], [compare("read", "peer", [math.nan], [1.0], fair="")], tmp_path / "parse.json")
    assert "| read | peer | CPU | – s | 1 (1–1) s | **–** |" in make_page(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    results(tmp_path, "order")
    assert "`benchmarks.pack`" in make_page(tmp_path).split("## ")[0]


@pytest.mark.parametrize("content", ['{"date": 1}', "[]", "{"])
def test_another_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "parse.json").write_text(content)
    with pytest.raises(InputError, match=r"parse\.json"):
        make_page(tmp_path)


def test_an_unknown_benchmark_is_refused(tmp_path):
    results(tmp_path, "parsing")
    with pytest.raises(InputError, match="no benchmark parsing"):
        make_page(tmp_path)


def test_every_part_is_a_benchmark_that_make_bench_runs():
    makefile = (ROOT / "Makefile").read_text()
    for name in PARTS:
        assert f"benchmarks.{name} " in makefile
        assert f"--out $(MEASURED)/{name}.json" in makefile


def test_the_page_of_the_docs_is_made_of_the_results_beside_it():
    page = (ROOT / "docs/benchmarks.md").read_text()
    assert page == make_page(ROOT / "benchmarks/measured"), (
        "python -m benchmarks.results benchmarks/measured docs/benchmarks.md"
    )
