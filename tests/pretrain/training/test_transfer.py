"""Batches that are read and prepared ahead of the step that uses them."""

import os
import signal
import threading
from contextlib import closing

import pytest
import torch
from torch.utils.data import Dataset

from parsers.command import InputError
from pretrain.data.padding import copy_to
from pretrain.training.loader import Ahead, StepLoader, find_tensors, free_shared, make_copier


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "batches ahead"] == []


class _Numbers(Dataset):
    def __getitem__(self, step):
        return [torch.tensor([step]), torch.tensor([10 * step])]


def _negate(batches):
    return [-batch for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_items_come_prepared_and_in_order(workers):
    with closing(StepLoader(_Numbers(), range(5, 9), workers=workers, prepare=_negate)) as loader:
        assert [[batch.item() for batch in item] for item in loader] == [[-n, -10 * n] for n in range(5, 9)]
        with pytest.raises(StopIteration):
            next(loader)
        assert loader.waited > 0


def test_the_next_item_is_made_while_one_is_used_and_no_more():
    made = [threading.Event() for _ in range(4)]

    def prepare(number):
        made[number].set()
        return number

    ahead = Ahead(iter(range(4)), prepare)
    assert next(ahead) == 0
    assert made[1].wait(100)
    assert not made[2].is_set()  # nor could it be: nobody has taken the one before it
    assert next(ahead) == 1
    assert made[2].wait(100)
    assert not made[3].is_set()
    ahead.close()
    assert not made[3].is_set()


def test_an_error_comes_at_its_step_and_the_steps_before_it_first():
    def prepare(number):
        if number == 2:
            raise RuntimeError("step 2")
        return number

    ahead = Ahead(iter(range(4)), prepare)
    assert [next(ahead), next(ahead)] == [0, 1]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="step 2"):
            next(ahead)
    ahead.close()


class _Damaged(Dataset):
    def __getitem__(self, step):
        if step == 1:
            raise InputError("part-00000.parquet: is damaged; write it again")
        return [torch.tensor([step])]


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_data_is_an_error_of_its_step(workers):
    with closing(StepLoader(_Damaged(), range(3), workers=workers, prepare=_negate)) as loader:
        assert [batch.item() for batch in next(loader)] == [0]
        with pytest.raises(InputError, match="is damaged"):
            next(loader)
        assert [batch.item() for batch in next(loader)] == [-2]


class _Killed(Dataset):
    def __getitem__(self, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return [torch.tensor([step])]


def test_the_end_of_a_worker_is_an_error_that_says_how():
    with (
        closing(StepLoader(_Killed(), range(3), workers=1, prepare=_negate)) as loader,
        pytest.raises(InputError, match="was ended by SIGKILL"),
    ):
        list(loader)


class _Endless(Dataset):
    """The second item never comes."""

    def __getitem__(self, step):
        if step == 1:
            signal.pause()
        return [torch.tensor([step])]


def test_a_run_ends_though_a_worker_hangs():
    with closing(StepLoader(_Endless(), range(3), workers=1, prepare=_negate)) as loader:
        next(loader)


def test_without_a_gpu_nothing_is_copied():
    cpu = torch.device("cpu")
    tensor = torch.arange(3)
    assert make_copier(cpu) is None
    assert copy_to(tensor, cpu) is tensor


def test_tensors_are_found_in_all_that_holds_them():
    one, other = torch.zeros(1), torch.ones(1)
    found = list(find_tensors([{"a": (one, None)}, "text", other]))
    assert [id(tensor) for tensor in found] == [id(one), id(other)]


def test_the_memory_of_a_batch_that_was_copied_is_freed_before_its_last_reference_is_gone():
    tensor = torch.ones(1 << 20).share_memory_()
    file = tensor.untyped_storage()._share_fd_cpu_()[0]
    assert os.fstat(file).st_blocks > 0
    free_shared(tensor)
    assert os.fstat(file).st_blocks == 0


def test_memory_that_is_not_shared_is_left_alone():
    tensor = torch.ones(1000)
    free_shared(tensor)
    assert tensor.sum() == 1000
