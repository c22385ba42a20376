"""Several processes: order, errors, processes that die, and programs that die."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tfobj.datasets import workers
from tfobj.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_results_keep_the_order_of_the_items(num_processes):
    results = workers.ordered_map(functools.partial(pow, 3), range(20), num_processes)
    assert list(results) == [3**i for i in range(20)]


def test_first_items_may_be_the_slow_ones():
    delays = [0.4, 0.0, 0.2, 0.0]
    assert list(workers.ordered_map(time.sleep, delays, 2)) == [None] * 4


def test_processes_are_others_and_end_with_the_map():
    processes = workers.ordered_map(eval, ["__import__('os').getpid()"] * 12, 2)
    first = next(processes)
    assert first != os.getpid()
    assert psutil.pid_exists(first)

    processes.close()
    assert not psutil.pid_exists(first)


def test_one_process_or_one_item_stays_here():
    here = "__import__('os').getpid()"
    assert set(workers.ordered_map(eval, [here] * 3, 1)) == {os.getpid()}
    assert set(workers.ordered_map(eval, [here], 8)) == {os.getpid()}


def test_processes_do_not_import_tensorflow():
    imported = (
        "sorted({'tensorflow', 'keras', 'tensorflow_datasets'} & set(__import__('sys').modules))"
    )
    assert list(workers.ordered_map(eval, [imported] * 2, 2)) == [[], []]


def test_errors_surface_as_themselves_at_their_item():
    results = workers.ordered_map(json.loads, ["1", "2", "{", "4"], 2)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(json.JSONDecodeError, match="Expecting property name") as error:
        next(results)

    # The note is the traceback of the other process.
    assert "raw_decode" in error.value.__notes__[0]


def test_functions_that_cannot_be_pickled_are_refused():
    def double(item):
        return 2 * item

    with pytest.raises(AttributeError):
        list(workers.ordered_map(double, [1, 2], 2))


def test_printing_does_not_get_between_the_results(capfd):
    assert list(workers.ordered_map(print, ["one", "two"], 2)) == [None, None]
    captured = capfd.readouterr()
    assert captured.out == ""

    # The two may print into each other's lines.
    assert "one" in captured.err
    assert "two" in captured.err


def test_a_killed_process_gives_one_line(monkeypatch):
    monkeypatch.setenv(workers.VARIABLE, "2")
    message = r"ended with status 9.*Set TFOBJ_PROCESSES to a smaller number .* than 2"
    with pytest.raises(UserError, match=message) as error:
        list(workers.ordered_map(os._exit, [9, 9, 9]))
    assert "\n" not in str(error.value)


def test_the_number_of_processes_is_the_variable_or_the_number_of_cores(monkeypatch):
    monkeypatch.delenv(workers.VARIABLE, raising=False)
    assert workers.default_processes() >= 1
    monkeypatch.setenv(workers.VARIABLE, "7")
    assert workers.default_processes() == 7


@pytest.mark.parametrize("text", ["0", "two", "-1"])
def test_a_wrong_number_of_processes_is_refused(monkeypatch, text):
    monkeypatch.setenv(workers.VARIABLE, text)
    message = f"`TFOBJ_PROCESSES` must be a number of processes.*TFOBJ_PROCESSES={text}"
    with pytest.raises(UserError, match=message):
        workers.default_processes()


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{text}")
    return [sys.executable, str(path)]


def test_a_script_without_a_guard_runs_once(tmp_path):
    text = (
        "print('once')\n"
        "from tfobj.datasets import workers\n"
        "print(list(workers.ordered_map(abs, [-1, -2, -3], 2)))\n"
    )
    result = subprocess.run(script(tmp_path, text), capture_output=True, text=True, check=True)
    assert result.stdout.split("\n") == ["once", "[1, 2, 3]", ""]


def test_processes_do_not_outlive_a_killed_program(tmp_path):
    text = (
        "import time\n"
        "from tfobj.datasets import workers\n"
        "for _ in workers.ordered_map(time.sleep, [0.05] * 10_000, 2):\n"
        "    print('running', flush=True)\n"
    )
    program = subprocess.Popen(
        script(tmp_path, text), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    # The first line says that both processes are at work.
    with program:
        program.stdout.readline()
        children = psutil.Process(program.pid).children()
        assert len(children) == 2
        program.send_signal(signal.SIGKILL)
        program.wait()
        gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
