import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.command import InputError
from pretrain.folds import assign_folds, compare, main
from shards.reader import ShardSet
from tests.pretrain.launch import ROOT
from tests.pretrain.runs import MODEL, RECIPE


@given(st.integers(2, 300), st.integers(2, 9))
def test_each_image_is_in_one_fold(n, folds):
    sizes = np.bincount(assign_folds(n, folds), minlength=folds)
    assert sizes.sum() == n
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1


def test_differences_are_paired_by_node():
    random = np.random.default_rng(0)
    n = 400
    kinds, images = np.zeros(n, np.int64), np.arange(n) // 4
    other = random.integers(0, 3, n)
    own = np.where(np.arange(n) % 4 == 0, 0, other)  # one node in four is read off the image
    found = compare(kinds, images, {"own": own, "other": other})
    assert set(found) == {"object"}
    gained = ((own < 1) & ~(other < 1)).mean()
    assert found["object"][1].own - found["object"][1].other == pytest.approx(gained)
    assert 0 < found["object"][1].low < gained < found["object"][1].high
    assert (found["object"][5].low, found["object"][5].high) == (0, 0)


@pytest.mark.slow
def test_no_model_is_asked_for_an_image_that_it_was_trained_on(shard_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "out/fold-0/train").mkdir(parents=True)  # a run that was killed may leave it so
    main(shard_folder, tmp_path / "recipe.yaml", tmp_path / "out", folds=2, set_=["steps=2"])
    probed = []
    for fold in range(2):
        train, val = (ShardSet(tmp_path / f"out/fold-{fold}/{split}").keys.to_pylist() for split in ("train", "val"))
        assert set(train).isdisjoint(val)
        assert len(train) + len(val) == len(ShardSet(shard_folder))
        probed += val
    assert sorted(probed) == sorted(ShardSet(shard_folder).keys.to_pylist())
    record = json.loads((tmp_path / "out/folds.json").read_text())
    assert set(record) == {"object", "attribute", "relation"}
    main(shard_folder, tmp_path / "recipe.yaml", tmp_path / "out", folds=2, set_=["steps=2"])
    assert json.loads((tmp_path / "out/folds.json").read_text()) == record, "nothing is trained again"
    with pytest.raises(InputError, match=r"fold-0/train holds other images"):
        main(shard_folder, tmp_path / "recipe.yaml", tmp_path / "out", folds=3, set_=["steps=2"])
    with pytest.raises(InputError, match="too few"):
        main(shard_folder, tmp_path / "recipe.yaml", tmp_path / "other", folds=30)
