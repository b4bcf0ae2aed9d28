"""The processes that train together, played by one."""

import socket
import subprocess
import sys
from functools import partial

import pytest
import torch

from parsers.command import InputError
from pretrain.training.distributed import CollectiveError, DistributedContext
from tests.pretrain.launch import ROOT, environment


class Two(DistributedContext):
    """Rank 0 of two ranks, of which the other one finds ``theirs``, or fails with that text."""

    theirs = None

    def all_reduce(self, tensor):
        return tensor + isinstance(self.theirs, str)

    def gather(self, item):
        return [item, self.theirs]


@pytest.fixture
def alone():
    return DistributedContext(0, 1, torch.device("cpu"))


def test_one_process_needs_no_group(alone):
    assert alone.all_reduce(torch.tensor([2.0])).tolist() == [2.0]
    assert alone.gather("a") == ["a"]
    assert alone.share(lambda: {"a": 1}) == {"a": 1}


def test_what_the_ranks_find_is_joined():
    two = Two(0, 2, torch.device("cpu"))
    object.__setattr__(two, "theirs", {"b": 2})
    assert two.share(lambda: {"a": 1}) == {"a": 1, "b": 2}


def test_the_failure_of_any_rank_is_that_of_all(alone):
    def fail():
        raise OSError("the disk is gone")

    with pytest.raises(CollectiveError, match="the disk is gone"):
        alone.share(fail)
    two = Two(0, 2, torch.device("cpu"))
    object.__setattr__(two, "theirs", "the other disk is gone")
    with pytest.raises(CollectiveError, match="the other disk is gone"):
        two.on_first(lambda: None)
    with pytest.raises(CollectiveError, match="the other disk is gone"):
        two.together(lambda: 1)


def test_what_one_rank_alone_raises_is_no_error_of_all(alone):
    two = Two(0, 2, torch.device("cpu"))
    assert alone.fails_together(ValueError("anything"))
    assert not two.fails_together(InputError("this rank's memory is full"))
    with pytest.raises(CollectiveError) as found:
        two.together(partial(open, "/nowhere/at/all"))
    assert two.fails_together(found.value)


def test_only_the_first_rank_works(alone):
    done = []
    alone.on_first(lambda: done.append("first"))
    DistributedContext(1, 1, torch.device("cpu")).on_first(lambda: done.append("second"))
    assert done == ["first"]


MEETING = """
from parsers.command import InputError
from pretrain.training.distributed import with_process_group
try:
    with_process_group(lambda: print("they have met"))
except InputError as error:
    print(error)
"""


def test_a_port_in_use_is_an_error_that_names_the_option():
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        found = environment(ROOT, 0, 2, port)
        done = subprocess.run([sys.executable, "-c", MEETING], env=found, capture_output=True, text=True, timeout=300)
    assert f"the port {port} is in use" in done.stdout, done.stdout + done.stderr
    assert "--master_port" in done.stdout
