"""The loader of steps."""

import os
import resource
import signal
from contextlib import closing
from dataclasses import dataclass

import pytest
import torch
from torch.utils.data import Dataset

from parsers.command import InputError
from pretrain.training.loader import StepLoader


class _Damaged(Dataset):
    """Steps of which the second cannot be read."""

    def __getitem__(self, step):
        if step == 1:
            raise InputError("part-00000.parquet: is damaged; write it again")
        return [step]


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_data_is_an_error_of_one_line_wherever_it_is_read(workers):
    loader = StepLoader(_Damaged(), range(3), workers=workers)
    assert next(loader) == [0]
    with pytest.raises(InputError) as error:
        next(loader)
    assert str(error.value) == "part-00000.parquet: is damaged; write it again"
    loader.close()


class _Numbers(Dataset):
    def __getitem__(self, step):
        return [step, 10 * step]


@pytest.mark.parametrize("workers", [0, 1])
def test_any_step_can_be_the_first(workers):
    loader = StepLoader(_Numbers(), range(5, 8), workers=workers)
    assert list(loader) == [[5, 50], [6, 60], [7, 70]]
    assert loader.waited > 0
    loader.close()
    assert list(loader) == []


class _Ending(Dataset):
    """The worker ends while it reads the second step, and nobody reads the third one."""

    def __init__(self, end):
        self.end = end

    def __getitem__(self, step):
        if step == 1:
            self.end()
        return [step]


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was ended by SIGKILL: most often the host's memory was full"),
        (lambda: os.kill(os.getpid(), signal.SIGBUS), "was ended by SIGBUS: .*/dev/shm"),
        (lambda: os._exit(7), "has ended with exit code 7"),
    ],
)
def test_the_end_of_a_worker_is_an_error_that_says_how(end, message):
    with closing(StepLoader(_Ending(end), range(3), workers=1)) as loader, pytest.raises(InputError, match=message):
        list(loader)


def test_the_end_of_a_worker_disturbs_no_step():
    """It is told between the steps, where a checkpoint can be written."""
    with closing(StepLoader(_Numbers(), range(3), workers=1)) as loader:
        next(loader)
        (worker,) = loader._workers
        worker.kill()
        worker.join()
        with pytest.raises(InputError, match="SIGKILL"):
            next(loader)


@dataclass(frozen=True)
class _Large:
    tensor: torch.Tensor


class _NoRoom(Dataset):
    """In the worker, shared memory has room for 64 KiB."""

    def __getitem__(self, step):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        return [{"large": (_Large(torch.zeros(1 << 20)),)}]


def test_shared_memory_that_is_full_is_an_error_and_no_hang():
    with (
        closing(StepLoader(_NoRoom(), range(3), workers=1)) as loader,
        pytest.raises(InputError, match=r"the shared memory cannot take a batch .*docker run --shm-size"),
    ):
        next(loader)


class _NoMemory(Dataset):
    def __getitem__(self, step):
        raise MemoryError


@pytest.mark.parametrize("workers", [0, 1])
def test_memory_that_is_full_is_an_error_of_one_line(workers):
    with (
        closing(StepLoader(_NoMemory(), range(3), workers=workers)) as loader,
        pytest.raises(InputError, match="lower workers, or batch_size"),
    ):
        next(loader)
