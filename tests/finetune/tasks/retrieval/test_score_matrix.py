"""The matrix of scores beside the plain forward pass, and its blocks."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune.tasks.retrieval import score_matrix
from parsers.command import InputError
from tests.finetune.retrieval import ALONE, every_pair


def test_the_matrix_holds_what_the_plain_forward_pass_says_of_every_pair(task, small, trained):
    model = copy.deepcopy(trained[1]).double()
    expected = every_pair(task, model, small)
    found = task.make_matrix(model, small, batch_size=7, device=torch.device("cpu")).fill(ALONE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert expected.std() > 0.1
    in_fp32 = task.make_matrix(trained[1], small, batch_size=7, device=torch.device("cpu")).fill(ALONE)
    np.testing.assert_allclose(in_fp32, expected, atol=5e-5)


def test_only_candidates_are_scored(task, small, trained):
    arguments = {"batch_size": 16, "device": torch.device("cpu")}
    everything = task.make_matrix(trained[1], small, **arguments).fill(ALONE)
    chosen = np.random.default_rng(1).random(everything.shape) < 0.3
    some = task.make_matrix(trained[1], small, **arguments, candidates=chosen).fill(ALONE)
    np.testing.assert_allclose(some[chosen], everything[chosen], atol=1e-5)
    assert (some[~chosen] == -np.inf).all()


def test_half_precision_is_near(task, small, trained):
    full, half = (
        task.make_matrix(trained[1], small, batch_size=16, device=torch.device("cpu"), precision=precision).fill(ALONE)
        for precision in ("fp32", "bf16")
    )
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).max() < 0.1 * np.abs(full).max()


def test_blocks_are_the_same_for_any_rank_and_after_a_stop(task, small, trained, tmp_path, monkeypatch):
    """Ranks make different blocks, and a block that is there is not made again."""
    monkeypatch.setattr(score_matrix, "BLOCK_PAIRS", 30)

    def matrix():
        return task.make_matrix(trained[1], small, batch_size=16, device=torch.device("cpu"))

    once = matrix().fill(ALONE, tmp_path / "once", {"model": "a"})
    blocks = sorted((tmp_path / "once").glob("block-*"))
    assert len(blocks) > 5
    first = {path.name: path.read_bytes() for path in blocks}
    for path in blocks[::2]:
        path.unlink()
    kept_blocks = {path: path.stat().st_mtime_ns for path in blocks[1::2]}
    assert np.array_equal(matrix().fill(ALONE, tmp_path / "once", {"model": "a"}), once)
    assert {path.name: path.read_bytes() for path in blocks} == first
    assert {path: path.stat().st_mtime_ns for path in kept_blocks} == kept_blocks
    with pytest.raises(InputError, match="another model"):
        matrix().fill(ALONE, tmp_path / "once", {"model": "b"})
    fewer = replace(small, examples=small.examples[:-1])
    other = task.make_matrix(trained[1], fewer, batch_size=16, device=torch.device("cpu"))
    with pytest.raises(InputError, match="another blocks"):
        other.fill(ALONE, tmp_path / "once", {"model": "a"})
    blocks[3].write_bytes(first[blocks[3].name][:-4])
    with pytest.raises(InputError, match="is damaged"):
        matrix().fill(ALONE, tmp_path / "once", {"model": "a"})
