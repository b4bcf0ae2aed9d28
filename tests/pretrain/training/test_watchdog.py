"""The watchdog: it says once where a run hangs."""

import threading

from pretrain.training.watchdog import Watchdog


def test_the_stacks_are_printed_once_until_something_moves_again(capfd):
    printed = threading.Semaphore(0)
    with Watchdog(0.01, 3, printed.release) as watchdog:
        assert printed.acquire(timeout=100)
        watchdog.beat()
        assert printed.acquire(timeout=100), "after a beat it watches again"
    found = capfd.readouterr().err
    assert found.count("rank 3: no step has ended for 0.01 s (recipe: stall_seconds)") == 2
    assert found.count("test_watchdog.py") >= 2, "the stacks of this thread, too"
    assert not printed.acquire(blocking=False)


def test_a_run_that_ends_in_time_prints_nothing(capfd):
    with Watchdog(1000.0, 0, lambda: None) as watchdog:
        watchdog.beat()
    assert not [thread for thread in threading.enumerate() if thread.name == "watchdog"]
    assert capfd.readouterr().err == ""
