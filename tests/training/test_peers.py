"""Workers as threads of one process: meeting, talking, leaving. (Real ones are in test_multiworker.py.)"""

import concurrent.futures
import contextlib
import socket
import time

import pytest

from tfobj.errors import UserError
from tfobj.training import peers
from tfobj.training.cluster import Cluster
from tfobj.training.peers import Alone, agree, meet


@pytest.fixture
def addresses():
    """Three free ports; they are given back just before they are used."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in range(3)]
        return tuple(f"localhost:{s.getsockname()[1]}" for s in sockets)


@pytest.fixture
def together(addresses):
    """Returns a function that runs jobs(index, peers) as three workers and returns their results or exceptions."""

    def run(job, size=3):
        def worker(index):
            with meet(
                Cluster(addresses[:size], index), patience=20.0, say=lambda text: None
            ) as line:
                return job(index, line)

        with concurrent.futures.ThreadPoolExecutor(size) as pool:
            futures = [pool.submit(worker, index) for index in range(size)]
            return [future.exception() or future.result() for future in futures]

    return run


def test_everyone_gets_all_values_in_order(together):
    results = together(lambda index, line: [line.gather(index * 10), line.gather({"step": index})])
    assert results == [[[0, 10, 20], [{"step": 0}, {"step": 1}, {"step": 2}]]] * 3


def test_gathering_waits_for_the_slowest(together):
    def job(index, line):
        time.sleep(0.1 * index)
        return line.gather(time.monotonic())

    assert len({tuple(result) for result in together(job)}) == 1


@pytest.mark.parametrize("who", [0, 2])
def test_an_exception_at_one_ends_all_with_its_message(together, who):
    def job(index, line):
        if index == who:
            raise UserError("The disk is full.")
        while True:
            line.gather(None)

    errors = together(job)
    name = "The chief, worker 0" if who == 0 else "Worker 2"
    assert str(errors[who]) == "The disk is full."
    assert all(
        isinstance(e, UserError)
        and str(e).startswith(name)
        and str(e).endswith("stopped. The disk is full.")
        for i, e in enumerate(errors)
        if i != who
    )


@pytest.mark.parametrize("who", [0, 1])
def test_a_death_is_told_to_all(together, who):
    def job(index, line):
        line.gather(None)
        if index == who:
            line._closed.set()  # first: a dead process does not tell the others that its lines are broken
            for own in line._lines.values():
                own.close()  # as the kernel does
            return "dead"
        while True:
            line.gather(None)

    errors = together(job)
    assert errors.pop(who) == "dead"
    assert all(
        ("The chief, worker 0" if who == 0 else "Worker 1") in str(e)
        and "is gone: it was killed" in str(e)
        for e in errors
    )


def test_who_hangs_elsewhere_is_ended(together, monkeypatch, capsys):
    """A main thread in a sum of TensorFlow does not come back; its process ends with the message."""
    ended = []
    monkeypatch.setattr(peers, "_GRACE", 0.2)
    monkeypatch.setattr(peers.os, "_exit", ended.append)

    def job(index, line):
        if index == 1:
            raise UserError("Stop.")
        time.sleep(1.0)
        return "hung"

    results = together(job, size=2)
    assert results[0] == "hung" and ended == [2]
    assert "error: Worker 1" in capsys.readouterr().err


def test_finishing_is_no_death(together, monkeypatch):
    monkeypatch.setattr(peers, "_GRACE", 0.0)
    monkeypatch.setattr(peers.os, "_exit", lambda status: pytest.fail("ended"))

    def job(index, line):
        line.gather(None)
        time.sleep(0.3 * index)

    assert together(job) == [None] * 3


def test_differences_are_named_on_all(together):
    errors = together(
        lambda index, line: agree(
            line, {"train": {"batch_size": 8 if index == 2 else 4}}, "Run the same command."
        )
    )
    assert len({str(e) for e in errors}) == 1 and isinstance(errors[0], UserError)
    assert "worker 0 -> worker 2: train.batch_size: 4 -> 8" in str(errors[0]) and str(
        errors[0]
    ).endswith("Run the same command.")
    assert (
        len(set(str(errors[0]).split("Digests: ")[1].split(".")[0].replace(",", "").split()[2::3]))
        == 2
    )


def test_one_alone():
    with meet(Cluster(("localhost:1",), 0)) as line:
        assert (
            isinstance(line, Alone)
            and line.gather("x") == ["x"]
            and line.explain(ValueError()) is None
        )
        agree(line, {"a": 1}, "")


@pytest.mark.parametrize(
    "index, missing", [(0, "worker 1 at {1}; worker 2 at {2}"), (2, "the chief, worker 0 at {0} (")]
)
def test_who_does_not_come_is_named(addresses, index, missing):
    said = []
    with pytest.raises(UserError, match="Waited 2.5 seconds") as e:
        meet(Cluster(addresses, index), patience=2.5, say=said.append)
    assert missing.format(*addresses) in str(e.value) and "TF_CONFIG" in str(e.value)
    assert len(said) == 1 and said[0].startswith(f"Waiting for {missing.format(*addresses)}")


def test_taken_port_is_said(addresses):
    with (
        socket.create_server(("", int(addresses[1].rpartition(":")[2]))),
        pytest.raises(UserError, match="worker 1 at .*, which cannot be had"),
    ):
        meet(Cluster(addresses, 1))


def test_two_of_the_same_number(addresses):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        chief = pool.submit(meet, Cluster(addresses, 0), 3.0, lambda text: None)
        clock = peers._Clock(10.0, lambda text: None)
        listener = peers._own_address(Cluster(addresses, 1))
        first = pool.submit(peers._call_chief, Cluster(addresses, 1), clock)
        second = pool.submit(peers._call_chief, Cluster(addresses, 1), clock)
        errors = [str(future.exception()) for future in (first, second)]
        assert "Waited 3 seconds for worker 2" in str(chief.exception())
        listener.close()
    assert sum("Two processes call themselves worker 1" in e for e in errors) == 1
    assert sum("gave up. Waited 3 seconds" in e for e in errors) == 1


def test_other_clusters_are_refused(addresses):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        chief = pool.submit(meet, Cluster(addresses[:2], 0), 2.0, lambda text: None)
        worker = pool.submit(
            meet, Cluster((addresses[0], addresses[2]), 1), 10.0, lambda text: None
        )
        assert "TF_CONFIG must name the same workers everywhere" in str(worker.exception())
        assert "Waited 2 seconds for worker 1" in str(chief.exception())


def test_worker_that_the_chief_cannot_reach(addresses):
    unknown = (addresses[0], "unknown.invalid:" + addresses[1].rpartition(":")[2])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        chief = pool.submit(meet, Cluster(unknown, 0), 2.0, lambda text: None)
        worker = pool.submit(meet, Cluster(unknown, 1), 10.0, lambda text: None)
        assert "has called the chief, but cannot be reached there" in str(worker.exception())
        assert isinstance(chief.exception(), UserError)


def test_strangers_at_the_door_are_sent_away(addresses):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        chief = pool.submit(meet, Cluster(addresses[:2], 0), 20.0, lambda text: None)
        knock(addresses[0])
        worker = pool.submit(meet, Cluster(addresses[:2], 1), 20.0, lambda text: None)
        with worker.result() as one, chief.result() as other:
            values = pool.submit(one.gather, 1)
            assert other.gather(0) == [0, 1] == values.result()


def knock(address):
    """Sends what is no greeting, as soon as someone listens."""
    for _ in range(100):
        with contextlib.suppress(OSError), peers._connect(address) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return
        time.sleep(0.05)
