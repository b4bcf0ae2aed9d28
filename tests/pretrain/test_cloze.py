import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parsers.command import InputError
from pretrain.cloze import main
from pretrain.model.config import ModelConfig
from pretrain.model.folder import export
from pretrain.model.heads import ErnieViLForPreTraining
from shards.reader import ShardSet
from tests.pretrain.conftest import PIECES, write_shards
from tests.pretrain.runs import MODEL

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    export(
        model.state_dict(), model.ernie_vil.config, "".join(piece + "\n" for piece in PIECES).encode(), run / "model"
    )
    return run


def cloze(*options):
    command = [sys.executable, "-m", "pretrain.cloze", *map(str, options)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_command_writes_a_table_numbers_and_a_chart(checkpoint, shard_folder, tmp_path):
    shown = cloze("--model", checkpoint, "--held-out", shard_folder, "--shards", shard_folder, "--most", 9)
    assert shown.returncode == 0, shown.stderr
    assert "ACC@5" in shown.stdout
    assert (checkpoint / "cloze/cloze.png").read_bytes().startswith(b"\x89PNG")
    first = (checkpoint / "cloze/cloze.json").read_text()
    record = json.loads(first)
    totals = ShardSet(shard_folder).manifest.totals
    assert record["max_text"] == 32, "the model has no more positions"
    assert record["nodes"]["object"] == {"in_shards": totals.objects, "maskable": totals.objects, "probed": 9}
    for kind in ("object", "attribute", "relation"):
        assert list(record["results"][kind]) == ["guessing", "own image", "no image", "other image"]
        for scores in record["results"][kind].values():
            assert 0 <= scores["acc@1"]["nodes"] <= scores["acc@5"]["nodes"] <= 1
    again = cloze(
        "--model", checkpoint / "model", "--held-out", shard_folder, "--shards", shard_folder, "--most", 9,
        "--out", tmp_path / "again",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again/cloze.json").read_text() == first


def test_one_image_has_no_other(checkpoint, tmp_path, capsys):
    main(model=checkpoint, held_out=str(write_shards(tmp_path / "one", [1])), out=tmp_path)
    assert "there is no other" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "cloze.json").read_text())["results"]["object"]) == ["own image", "no image"]


def test_bad_input_is_refused(model, checkpoint, shard_folder, tmp_path):
    words = "".join(piece + "\n" for piece in [*PIECES[:-1], "other"]).encode()
    export(model.state_dict(), model.ernie_vil.config, words, tmp_path / "words")
    wide = ModelConfig.model_validate(MODEL | {"v_feature_size": 9})
    export(
        ErnieViLForPreTraining(wide).state_dict(), wide, (shard_folder / "vocab.txt").read_bytes(), tmp_path / "wide"
    )
    for folder, options, message in (
        (tmp_path, {}, "neither a model"),
        (tmp_path / "words", {}, "another vocabulary"),
        (tmp_path / "wide", {}, "features of size 8"),
        (checkpoint, {"shards": str(tmp_path)}, "no manifest.json"),
    ):
        with pytest.raises(InputError, match=message):
            main(model=folder, held_out=str(shard_folder), out=tmp_path, **options)
    assert not (tmp_path / "cloze.json").exists()
    failed = cloze("--model", "nowhere", "--held-out", shard_folder)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
