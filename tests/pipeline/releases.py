"""Folders that an earlier release began."""

import pytest

from parsers.command import InputError
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from shards.stage_folder import REPORT, STAGE
from shards.storage.files import read_record, write_record


def check_other_formats_are_refused(stage, out):
    """Checks that a stage does not go on in a folder whose record has no version of the formats."""
    run_stage(stage, out, Engine(), max_rejects=0, overwrite=False)
    (out / REPORT).unlink()
    record = read_record(out / STAGE)
    del record["formats_version"]  # as the first release left it
    write_record(record, out / STAGE)
    with pytest.raises(InputError, match=r"other settings .*formats_version: null -> "):
        run_stage(stage, out, Engine(), max_rejects=0, overwrite=False)
