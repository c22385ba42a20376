"""Processes that wait for their turn. TensorFlow is not imported here: the processes import this file."""

import os
import time

import pytest

from tfobj.bench.workers import Team
from tfobj.errors import UserError


class Counter:
    """A job that counts its calls, and fails as it is told."""

    facts = "made"

    def __init__(self, failure=None, at=0):
        self.calls, self.failure, self.at = 0, failure, at
        self._fail()

    def __call__(self):
        self.calls += 1
        self._fail()
        return self.calls, os.getpid()

    def _fail(self):
        if self.calls == self.at and self.failure == "mistake":
            raise UserError("`train.steps` must be at least 1.")
        if self.calls == self.at and self.failure == "crash":
            raise ZeroDivisionError("division by zero")
        if self.calls == self.at and self.failure == "killed":
            os.kill(os.getpid(), 9)


def test_workers_take_turns():
    with Team() as team:
        first, second = team.start("first", Counter), team.start("second", Counter)
        assert first.facts == "made"
        assert [first.call()[0], second.call()[0], first.call()[0]] == [1, 1, 2]
        pids = [first.call()[1], second.call()[1]]
    assert len({*pids, os.getpid()}) == 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_mistake_of_a_job_is_ours():
    with Team() as team, pytest.raises(UserError, match="row: `train.steps` must be at least 1."):
        team.start("row", Counter, "mistake")
    with Team() as team, pytest.raises(UserError, match="row: `train.steps`"):
        team.start("row", Counter, "mistake", 1).call()


def test_crash_of_a_job_shows_what_it_printed(capsys):
    with Team() as team, pytest.raises(UserError, match="The process of `row` ended with status 1"):
        team.start("row", Counter, "crash")
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_killed_job_suggests_the_memory():
    with Team() as team, pytest.raises(UserError, match="killed; is the memory full"):
        team.start("row", Counter, "killed", 1).call()


def test_leaving_early_is_quick():
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Team() as team:
        team.start("row", Counter)
        raise KeyboardInterrupt
    assert time.monotonic() - start < 60
