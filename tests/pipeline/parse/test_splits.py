"""The splits of a Karpathy file: those of a test set are no training data unless somebody asks for them."""

import json

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import pipeline.pack.__main__ as pack
import pipeline.parse.__main__ as parse
from parsers.command import InputError
from tests.pipeline.pack.tables import make_row, regions_folder, write_vocabulary

SPLITS = ("train", "restval", "val", "test")


def parsed(tmp_path, *options, splits=SPLITS, size=2):
    images = [
        {"cocoid": number, "sentences": [{"sentid": number, "raw": f"a red hat {number}"}]}
        | ({} if split is None else {"split": split})
        for number, split in enumerate(splits)
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    arguments = [tmp_path / "dataset.json", "--out", tmp_path / "graphs", "--workers", 1, "--partition-size", size]
    result = CliRunner().invoke(parse.app, [*map(str, arguments), *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0
    parts = sorted((tmp_path / "graphs").glob("*.parquet"))
    statistics = json.loads((tmp_path / "graphs" / "report.json").read_bytes())["statistics"]
    return [splits[int(i)] for part in parts for i in pq.read_table(part)["image_id"].to_pylist()], statistics


@pytest.mark.parametrize("size", [1, 2, 100])
def test_the_test_split_is_left_out_and_counted(tmp_path, size):
    found, statistics = parsed(tmp_path, splits=(*SPLITS, "test", None), size=size)
    assert found == ["train", "restval", "val", None]
    assert statistics["captions"] == 4
    counted = {name: count for name, count in statistics.items() if "split" in name}
    assert counted == {f"captions of the split {name}": 1 for name in SPLITS[:3]} | {
        "left out: captions of the split test": 2
    }


@pytest.mark.parametrize(("option", "expected"), [("train", ["train"]), ("test, val", ["val", "test"])])
def test_the_splits_that_are_named_are_taken(tmp_path, option, expected):
    assert parsed(tmp_path, "--splits", option)[0] == expected


@pytest.mark.parametrize(
    ("splits", "there"), [(SPLITS, "restval, test, train, val"), ((None,), "no splits")], ids=["others", "none"]
)
def test_a_split_that_does_not_occur_is_refused(tmp_path, splits, there):
    with pytest.raises(InputError, match=f"--splits names dev, but the captions have {there}"):
        parsed(tmp_path, "--splits", "dev", splits=splits)


def test_pack_says_which_splits_went_in(tmp_path):
    parsed(tmp_path)
    regions = regions_folder(tmp_path / "regions", [make_row(str(number), 1) for number in range(4)])
    arguments = ["--graphs", tmp_path / "graphs", "--regions", regions, "--tokenizer", write_vocabulary(tmp_path)]
    arguments += ["--out", tmp_path / "out", "--workers", 1]
    result = CliRunner().invoke(pack.app, list(map(str, arguments)), catch_exceptions=False)
    assert "captions of the split train: 1" in result.output
    assert "left out: captions of the split test: 1" in result.output
