"""The best evaluation so far, and stopping early."""

import pytest

from parsers.command import InputError
from pretrain.training.best import BestTracker
from pretrain.training.settings import Best


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [("min", [3, 2, 2, 4, 1], [True, True, False, False, True]), ("max", [3, 2, 4, 4], [True, False, True, False])],
)
def test_only_a_better_value_is_the_best(mode, values, best):
    tracker = BestTracker(Best(metric="loss", mode=mode))
    assert [tracker.is_best({"loss": value}) for value in values] == best
    assert not tracker.stops_early(), "without patience a run goes on"


def test_a_run_stops_when_its_patience_ends_also_if_it_was_resumed():
    settings = Best(metric="loss", mode="min", patience=2)
    tracker = BestTracker(settings)
    stops = [tracker.is_best({"loss": value}) or tracker.stops_early() for value in (2.0, 3.0)]
    assert stops == [True, False]
    resumed = BestTracker(settings)
    resumed.restore(tracker.state())
    assert not resumed.is_best({"loss": 2.5})
    assert resumed.stops_early()
    assert resumed.state() == {"best": 2.0, "evaluations_since_best": 2}


def test_a_metric_that_there_is_not_is_refused():
    BestTracker(None).check_metric({})
    assert not BestTracker(None).is_best({"loss": 1.0})
    with pytest.raises(InputError, match=r"there is no 'accuracy'; there are loss"):
        BestTracker(Best(metric="accuracy", mode="max")).check_metric({"loss": 1.0})
