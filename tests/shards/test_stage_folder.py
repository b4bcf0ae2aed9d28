"""What is read from the folder of a stage."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsers.command import InputError
from shards.stage_folder import hash_stage, parts_of, read_part_metadata, read_statistics
from shards.storage.files import write_record


def write_part(path, metadata):
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(metadata), path)


def test_the_parts_of_a_finished_stage_are_listed_in_order(tmp_path):
    with pytest.raises(InputError, match="no stage wrote it; `ernie-vil parse` makes such a folder of captions"):
        parts_of(tmp_path)
    for number in (10, 2, 1):
        write_part(tmp_path / f"part-{number:05d}.parquet", {})
    with pytest.raises(InputError, match=r"has no report\.json, which a stage writes last; run its command again"):
        parts_of(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    assert [part.name for part in parts_of(tmp_path)] == [f"part-{number:05d}.parquet" for number in (1, 2, 10)]


def test_a_stage_without_parts_is_refused(tmp_path):
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds no part-\*\.parquet; its stage had nothing to write"):
        parts_of(tmp_path)


def test_the_metadata_of_a_part_have_a_version(tmp_path):
    write_part(tmp_path / "a", {"graphs_version": "1", "parser": "é"})
    assert read_part_metadata(tmp_path / "a", "graphs_version", ["1"]) == {"graphs_version": "1", "parser": "é"}
    with pytest.raises(InputError, match="graphs_version is 1, this release reads 2 and 3; run its stage again"):
        read_part_metadata(tmp_path / "a", "graphs_version", ["2", "3"])
    with pytest.raises(InputError, match=r"holds no regions but graphs; are two folders swapped\?"):
        read_part_metadata(tmp_path / "a", "regions_version", ["1"])
    (tmp_path / "a").write_text("no Parquet")
    with pytest.raises(InputError, match="a: cannot be read as Parquet"):
        read_part_metadata(tmp_path / "a", "graphs_version", ["1"])


def test_a_stage_is_known_by_what_it_was_asked_to_do(tmp_path):
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        write_record({"inputs": content}, tmp_path / name / "stage.json")
    a, b, c = (hash_stage(tmp_path / name) for name in "abc")
    assert a == b != c
    with pytest.raises(InputError, match=r"stage\.json: cannot be read"):
        hash_stage(tmp_path)
    damaged = (tmp_path / "a/stage.json").read_text().replace('"inputs": "1"', '"inputs": "3"')
    (tmp_path / "a/stage.json").write_text(damaged)
    with pytest.raises(InputError, match="differs from the checksum in it"):
        hash_stage(tmp_path / "a")


def test_the_counts_of_a_stage_are_counts(tmp_path):
    report = tmp_path / "report.json"
    report.write_text('{"statistics": {"rows": 3}}')
    assert read_statistics(tmp_path) == {"rows": 3}
    for content in ('{"statistics": "rows"}', '{"statistics": {"rows": null}}', "[]", "{"):
        report.write_text(content)
        with pytest.raises(InputError, match=r"report\.json"):
            read_statistics(tmp_path)
