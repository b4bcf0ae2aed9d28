"""The record of the files that a stage wrote."""

import pytest

from parsers.command import InputError
from pipeline.execution.outputs import FILES, list_outputs, record_outputs, remove_outputs
from shards.storage.files import write_record


def test_what_a_run_wrote_is_recorded_and_removed(tmp_path):
    (tmp_path / "earlier.txt").write_text("of somebody")
    before = list_outputs(tmp_path)
    (tmp_path / "part.txt").write_text("ours")
    record_outputs(tmp_path, before, ())
    with pytest.raises(InputError, match=r"holds earlier\.txt, which no record"):
        remove_outputs(tmp_path)
    (tmp_path / "earlier.txt").unlink()
    remove_outputs(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("record", [{}, {"files": 3}, {"files": [1]}, {"files": None}])
def test_a_record_that_lists_no_files_removes_nothing(tmp_path, record):
    (tmp_path / "part.txt").write_text("ours")
    write_record(record, tmp_path / FILES)
    with pytest.raises(InputError, match=r"\.files\.json: lists no files"):
        remove_outputs(tmp_path)
    assert (tmp_path / "part.txt").exists()
