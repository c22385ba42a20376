"""Child processes. TensorFlow is not imported here, because the children import this file."""

import json
import os
import sys
import time

import pytest

from tfobj import processes
from tfobj.errors import UserError
from tfobj.processes import Child, ChildDied


class Counter:
    """A job that counts its calls, and fails as it is told."""

    facts = "made"

    def __init__(self, failure=None, at=0):
        self.calls = 0
        self.failure = failure
        self.at = at
        self._fail()

    def __call__(self, add=0):
        self.calls += 1
        self._fail()
        return self.calls + add, os.getpid()

    def _fail(self):
        if self.calls != self.at:
            return
        if self.failure == "mistake":
            raise UserError("`train.steps` must be at least 1.")
        if self.failure == "crash":
            print("the last words of a library")
            raise ZeroDivisionError("division by zero")
        if self.failure == "killed":
            print("the last words of a library", flush=True)
            os.kill(os.getpid(), 9)


def environment(name):
    return os.environ.get(name)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_functions_run_in_a_process_of_their_own():
    with Child() as child:
        assert child.run(pow, 3, 4) == 81
        pid = child.run(os.getpid)
        assert pid == child.run(os.getpid) != os.getpid()
    assert not is_running(pid)


def test_jobs_stay_in_their_process():
    with Child() as first, Child() as second:
        assert first.make(Counter) == "made"
        second.make(Counter)
        assert [first.call()[0], second.call()[0], first.call()[0], first.call(10)[0]] == [
            1,
            1,
            2,
            13,
        ]
        assert first.call()[1] != second.call()[1]


def test_a_job_without_facts_has_none():
    with Child() as child:
        assert child.make(dict) is None


def test_two_children_work_at_the_same_time():
    with Child() as first, Child() as second:
        first.run(abs, 1)
        second.run(abs, 1)
        start = time.monotonic()
        first.start(time.sleep, 1.0)
        second.start(time.sleep, 1.0)
        assert first.result() is None
        assert second.result() is None
        assert time.monotonic() - start < 1.9


def test_environment_is_changed(monkeypatch):
    monkeypatch.setenv("TFOBJ_KEPT", "kept")
    monkeypatch.setenv("TFOBJ_CHANGED", "old")
    monkeypatch.setenv("TFOBJ_REMOVED", "there")
    with Child(environment={"TFOBJ_CHANGED": "new", "TFOBJ_REMOVED": None}) as child:
        assert child.run(environment, "TFOBJ_KEPT") == "kept"
        assert child.run(environment, "TFOBJ_CHANGED") == "new"
        assert child.run(environment, "TFOBJ_REMOVED") is None


def test_user_errors_come_back_with_the_name_of_the_child():
    with Child("row") as child:
        with pytest.raises(UserError, match="^row: `train.steps` must be at least 1.$"):
            child.make(Counter, "mistake")
        child.make(Counter, "mistake", 1)
        with pytest.raises(UserError, match="^row: `train.steps`"):
            child.call()


def test_user_errors_of_a_nameless_child_come_back_as_they_are():
    with Child() as child, pytest.raises(UserError, match="^`train.steps` must be at least 1.$"):
        child.make(Counter, "mistake")


def test_other_errors_come_back_with_their_traceback_and_what_was_printed(capsys):
    with Child() as child, pytest.raises(ZeroDivisionError) as error:
        child.make(Counter, "crash")
    assert "in _fail" in error.value.__notes__[0]
    assert "the last words of a library" in capsys.readouterr().err


def test_other_errors_of_a_child_with_a_name_are_its_mistake(capsys):
    """So that a command ends with one line and status 2, and not with a status that means more."""
    with Child("row") as child, pytest.raises(UserError, match="^row: ZeroDivisionError: "):
        child.make(Counter, "crash")
    shown = capsys.readouterr().err
    assert "the last words of a library" in shown
    assert "in _fail" in shown


def test_a_child_that_prints_before_it_listens_is_ended(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("print('a greeting')")
    monkeypatch.setattr(processes, "_PATIENCE", 0.5)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with Child() as child, pytest.raises(processes.ChildDied):
        child.run(abs, -1)


def test_an_error_leaves_the_child_ready():
    with Child() as child:
        with pytest.raises(json.JSONDecodeError, match="Expecting property name"):
            child.run(json.loads, "{")
        assert child.run(json.loads, "4") == 4


def test_errors_that_cannot_travel_are_described():
    class LocalError(Exception):
        pass

    error = processes.pickle.loads(processes._pickled_error(LocalError("no 1")))[1]
    assert isinstance(error, RuntimeError)
    assert str(error) == "LocalError: no 1"


def test_requests_that_cannot_travel_fail_here():
    with Child() as child:
        with pytest.raises((AttributeError, processes.pickle.PicklingError)):
            child.run(lambda: 1)
        assert child.run(abs, -1) == 1


def test_a_killed_child_shows_what_it_printed_and_suggests_the_memory(capsys):
    with Child("row") as child, pytest.raises(ChildDied, match="killed; is the memory full") as e:
        child.make(Counter, "killed")
    assert e.value.status == -9
    assert "the last words of a library" in e.value.output
    assert "the last words of a library" in capsys.readouterr().err


def test_a_dead_child_says_so_at_every_call():
    with Child("row") as child:
        for _ in range(2):
            with pytest.raises(ChildDied, match="The process of `row` ended with status 3"):
                child.run(os._exit, 3)


def test_prints_do_not_get_between_the_results(capfd):
    with Child(keep_output=False) as child:
        assert child.run(print, "one") is None
        assert child.run(abs, -1) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.split() == ["one"]


def test_output_kept_aside_is_not_shown(capfd):
    with Child() as child:
        child.run(print, "one")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_child_that_takes_too_long_is_ended():
    with Child() as child:
        pid = child.run(os.getpid)
        with pytest.raises(TimeoutError, match="stopped after 0 s"):
            child.run(time.sleep, 600, timeout=0.2)
        child._process.wait(30)
        assert not is_running(pid)


def test_a_child_in_time_goes_on():
    with Child() as child:
        assert child.run(abs, -1, timeout=60) == 1
        assert child.run(abs, -2, timeout=60) == 2


def test_leaving_early_is_quick_and_silent(capfd):
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Child("row") as child:
        child.start(time.sleep, 600)
        raise KeyboardInterrupt
    assert time.monotonic() - start < 30
    assert child._process.poll() is not None
    assert capfd.readouterr().err == ""


def test_tensorflow_is_not_imported_there():
    heavy = "sorted({'tensorflow', 'keras'} & set(__import__('sys').modules))"
    with Child() as child:
        assert child.run(eval, heavy) == []
