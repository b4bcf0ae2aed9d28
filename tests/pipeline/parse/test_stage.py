"""The partitions of the stage that parses captions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.execution.parts import Reject
from pipeline.parse.stage import ParseStage
from shards.stage_folder import REPORT, STAGE
from shards.storage.files import read_record, write_record
from tests.pipeline.parse.sources import jsonl, write


def partitions(sources, size):
    return list(ParseStage(tuple((path, "jsonl") for path in sources), "sng", "1", size).partitions())


def test_the_same_caption_of_an_image_is_taken_once_also_over_two_files(tmp_path):
    row = {"image_id": "a", "caption_id": "1", "caption": "a bear"}
    first = write(tmp_path, "1.jsonl", jsonl(row, row | {"image_id": "b"}, row | {"caption_id": "2"}))
    second = write(tmp_path, "2.jsonl", jsonl(row | {"caption": " a bear"}, row | {"caption": "a bear."}))
    (partition,) = partitions([first, second], 100)
    assert partition.rows.select(["image_id", "caption"]).to_pylist() == [
        {"image_id": "a", "caption": "a bear"},
        {"image_id": "b", "caption": "a bear"},
        {"image_id": "a", "caption": "a bear."},
    ]
    assert partition.rejects == [
        Reject(str(first), "line 3", "duplicate caption of the image"),
        Reject(str(second), "line 1", "duplicate caption of the image"),
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "", "c"]), max_size=20), st.integers(1, 7))
def test_partitions_hold_every_row_once_in_order(tmp_path_factory, texts, size):
    path = write(tmp_path_factory.mktemp("t"), "a.jsonl", jsonl(*({"image_id": "i", "caption": t} for t in texts)))
    found = partitions([path], size)
    assert all(len(partition.rows) + len(partition.rejects) == size for partition in found[:-1])
    assert sum(len(partition.rows) + len(partition.rejects) for partition in found) == len(texts)
    kept = [text for partition in found for text in partition.rows["caption"].to_pylist()]
    assert kept == list(dict.fromkeys(text for text in texts if text))


def test_a_folder_that_another_release_began_is_not_gone_on_with(tmp_path):
    path = write(tmp_path, "a.jsonl", jsonl({"image_id": "a", "caption": "a bear"}))
    stage, out = ParseStage(((path, "jsonl"),), "sng", "1", 1), tmp_path / "out"
    run_stage(stage, out, Engine(), max_rejects=0, overwrite=False)
    (out / REPORT).unlink()
    record = read_record(out / STAGE)
    del record["formats_version"]  # as the first release left it
    write_record(record, out / STAGE)
    with pytest.raises(InputError, match=r"other settings .*formats_version: null -> "):
        run_stage(stage, out, Engine(), max_rejects=0, overwrite=False)
