"""The time left: from recent steps, without compilation, with the evaluations that are to come."""

import pytest

from tfobj.training.progress import TimeLeft, describe_seconds


def test_nothing_is_said_before_a_step_was_measured():
    left = TimeLeft(total=100, done=0)
    assert left.seconds() is None
    assert str(left) == "estimating the time left"
    left.add(10, None)  # compiled
    assert str(left) == "estimating the time left"
    left.add(10, 20.0)
    assert left.seconds() == 80 * 2.0
    assert str(left) == "3 min left"


def test_recent_steps_count():
    left = TimeLeft(total=1_000, done=0)
    for _ in range(10):
        left.add(10, 100.0)
    for _ in range(20):
        left.add(10, 10.0)
    assert left.seconds() == 700 * 1.0


def test_steps_longer_than_the_window_count_all_the_same():
    left = TimeLeft(total=10, done=0)
    left.add(1, 500.0)
    left.add(1, 300.0)
    assert left.seconds() == 8 * 300.0


@pytest.mark.parametrize(
    "total, done, evaluations",
    [(100, 20, 4), (100, 19, 5), (100, 99, 1), (95, 90, 1), (100, 100, 0)],
)
def test_evaluations_to_come_are_added(total, done, evaluations):
    left = TimeLeft(total, done - 1, eval_every=20)
    left.add(1, 1.0)
    left.add_evaluation(30.0)
    assert left.seconds() == (total - done) * 1.0 + evaluations * 30.0


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3_590, "1 h 00 min"), (3_900, "1 h 05 min")],
)
def test_durations_in_words(seconds, text):
    assert describe_seconds(seconds) == text
