"""The stage that converts published features."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.regions.formats import FORMATS
from pipeline.regions.stage import RegionsStage
from shards.regions.table import RegionsInfo, read_rows
from shards.stage_folder import parts_of
from tests.pipeline.regions.features import IMAGES, D, assert_row, read_all, tsv_line, write_npz
from tests.pipeline.releases import check_other_formats_are_refused


@pytest.mark.parametrize("format", ["butd-tsv", "vilbert-npz"])
def test_the_stage_writes_what_the_format_reads(tmp_path, format):
    source = tmp_path / "features.tsv" if format == "butd-tsv" else write_npz(tmp_path / "npz", IMAGES)
    if format == "butd-tsv":
        source.write_text("".join(map(tsv_line, IMAGES)))
    reader = FORMATS[format]
    info, rows = read_all(format, source)
    stage = RegionsStage(tuple(reader.files([source])), format, info, 4)
    report = run_stage(stage, tmp_path / "out", Engine(), max_rejects=0, overwrite=False)
    assert report.statistics == {"rows": 11, "images": 11, "boxes": sum(len(image["boxes"]) for image in IMAGES)}
    stored = []
    for part in parts_of(tmp_path / "out"):
        assert RegionsInfo.from_file(part) == info
        stored += list(read_rows(pq.read_table(part), D))
    for found, row, image in zip(stored, rows, IMAGES, strict=True):
        assert_row(found, image)
        for name in ("class_ids", "class_probs"):
            np.testing.assert_array_equal(getattr(found.regions, name), getattr(row.regions, name), strict=True)
        for name in ("attribute_ids", "attribute_probs"):
            a, b = getattr(found, name), getattr(row, name)
            assert a is b is None or np.array_equal(a, b)


def test_rejects_of_the_stage_name_the_line(tmp_path):
    path = tmp_path / "features.tsv"
    lines = [*map(tsv_line, IMAGES[:3]), "not a line\n", tsv_line(IMAGES[4])]
    path.write_text("".join(lines))
    info, _ = read_all("butd-tsv", path)
    run_stage(RegionsStage((path,), "butd-tsv", info, 99), tmp_path / "out", Engine(), max_rejects=1, overwrite=False)
    (line,) = (tmp_path / "out" / "rejects" / "part-00000.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "source": str(path),
        "position": f"byte {len(''.join(lines[:3]).encode())}",
        "reason": "wrong number of columns: 1, expected 10",
    }


def test_a_folder_that_another_release_began_is_not_gone_on_with(tmp_path):
    path = tmp_path / "features.tsv"
    path.write_text("".join(map(tsv_line, IMAGES)))
    info, _ = read_all("butd-tsv", path)
    stage, out = RegionsStage((path,), "butd-tsv", info, 4), tmp_path / "out"
    check_other_formats_are_refused(stage, out)
