"""The processes that train together."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from parsers.command import InputError
from shards.storage.lock import lock_folder

T = TypeVar("T")


class CollectiveError(InputError):
    """An error that is raised on all ranks, so that they can still act together."""


@dataclass(frozen=True, slots=True)
class DistributedContext:
    """This process, and how it talks to the others that train with it."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def current(cls) -> DistributedContext:
        """Returns the context of the initialised process group."""
        from deepspeed.accelerator import get_accelerator

        return cls(dist.get_rank(), dist.get_world_size(), torch.device(get_accelerator().current_device_name()))

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sums a tensor over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, item: T) -> list[T]:
        """Returns the items of all ranks, in their order; they can be anything that can be pickled."""
        items: list[T] = [item] * self.size
        if self.size > 1:
            dist.all_gather_object(items, item)
        return items

    def together(self, work: Callable[[], T]) -> T:
        """Runs ``work`` on all ranks, and returns what it returns on this one.

        Raises:
            CollectiveError: ``work`` has failed on one rank; the error is raised on all.
        """
        problem = None
        try:
            result = work()
        except (InputError, OSError) as error:
            problem = str(error)
        if self.all_reduce(torch.tensor(float(problem is not None), device=self.device)):
            raise CollectiveError(next(text for text in self.gather(problem) if text is not None))
        return result

    def share(self, work: Callable[[], dict[str, T]]) -> dict[str, T]:
        """Runs ``work`` on all ranks, and returns the items that any of them has found.

        Raises:
            CollectiveError: ``work`` has failed on one rank; the error is raised on all.
        """
        return {key: value for part in self.gather(self.together(work)) for key, value in part.items()}

    def on_first(self, work: Callable[[], None]) -> None:
        """Runs ``work`` on rank 0 while the others wait. If it fails, it fails on all ranks."""

        def first() -> dict[str, None]:
            if self.rank == 0:
                work()
            return {}

        self.share(first)

    def fails_together(self, error: Exception) -> bool:
        """Whether all ranks have ended their work with this error. If not, others may still wait for this one."""
        return self.size == 1 or isinstance(error, CollectiveError)


def with_process_group(work: Callable[[], None], out: Path | None = None) -> None:
    """Runs ``work`` in the process group of the launcher, or in one of a single process if there is no launcher.

    Rank 0 holds the lock of the folder ``out`` for all ranks.

    Raises:
        InputError: another run writes to ``out``, or another program has the port on which the processes would meet.
    """
    import deepspeed

    if "RANK" not in os.environ:
        alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        os.environ.update(alone)
    # The shared-memory reduction serves inference alone, yet DeepSpeed would compile it on every CPU: that needs a
    # compiler, and a process killed meanwhile leaves a lock behind on which all later runs wait for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # DeepSpeed still calls some collectives by their older names.
    warnings.filterwarnings("ignore", message=".*is deprecated. Please use", module="torch.distributed")
    # DeepSpeed names the device of several ranks; one alone has but its current one, and needs no advice.
    warnings.filterwarnings("ignore", message=r"barrier\(\): using the device under current context")
    try:
        deepspeed.init_distributed(dist_init_required=True, verbose=False)
    except dist.DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise
        raise InputError(
            f"the port {os.environ['MASTER_PORT']} is in use, most often by another run; name another one to "
            "the launcher, e.g. deepspeed --master_port 29501 (torchrun: --master-port)"
        ) from error
    try:
        with ExitStack() as held:
            if out is not None:
                DistributedContext.current().on_first(lambda: held.enter_context(lock_folder(out)))
            work()
    finally:
        dist.destroy_process_group()
        # DeepSpeed keeps the groups alive, and so their threads. A thread that lets go of the last tensor while Python
        # ends takes the process down ("terminate called without an active exception"): so it gets a moment before.
        time.sleep(0.1)
