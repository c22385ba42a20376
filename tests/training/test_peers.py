"""Workers as threads of one process: talking and leaving. (Real ones: test_multiworker.py.)"""

import queue
import time

import pytest
from worker_threads import together  # this folder's

from tfobj.errors import UserError
from tfobj.training import peers as peers_module
from tfobj.training.peers import SingleWorker, agree

NAMES = ("The chief, worker 0", "Worker 1", "Worker 2")


def test_everyone_gets_all_values_in_order():
    results = together(
        lambda index, peers: [peers.gather(index * 10), peers.gather({"step": index})]
    )
    assert results == [[[0, 10, 20], [{"step": 0}, {"step": 1}, {"step": 2}]]] * 3


def test_gathering_waits_for_the_slowest():
    def job(index, peers):
        time.sleep(0.1 * index)
        return peers.gather(time.monotonic())

    assert len({tuple(result) for result in together(job)}) == 1


@pytest.mark.parametrize("who", [0, 2])
def test_an_exception_at_one_ends_all_with_its_message(who):
    def job(index, peers):
        if index == who:
            raise UserError("The disk is full.")
        while True:
            peers.gather(None)

    errors = together(job)
    assert str(errors.pop(who)) == "The disk is full."
    for error in errors:
        assert isinstance(error, UserError)
        assert str(error).startswith(NAMES[who])
        assert str(error).endswith("stopped. The disk is full.")


def test_an_exception_that_is_no_mistake_is_named_with_its_kind():
    def job(index, peers):
        if index == 1:
            raise KeyError("x")
        while True:
            peers.gather(None)

    errors = together(job, size=2)
    assert str(errors[0]).endswith("stopped. KeyError: 'x'")


@pytest.mark.parametrize("who", [0, 1])
def test_a_death_is_told_to_all(who):
    def job(index, peers):
        peers.gather(None)
        if index == who:
            # First, because a dead process does not tell the others that its connections broke.
            peers._closed.set()
            for connection in peers._connections.values():
                connection.close()  # As the kernel does.
            return "dead"
        while True:
            peers.gather(None)

    errors = together(job)
    assert errors.pop(who) == "dead"
    for error in errors:
        assert NAMES[who] in str(error)
        assert "is gone: it was killed" in str(error)


def test_a_loss_frees_whoever_waits_elsewhere():
    reasons = queue.SimpleQueue()

    def job(index, peers):
        if index == 1:
            raise UserError("Stop.")
        peers.when_lost(reasons.put)
        return str(peers.explain(RuntimeError("a sum was aborted")))

    results = together(job, size=2)
    assert results[0].endswith("stopped. Stop.")
    assert reasons.get(timeout=10) == results[0]
    assert reasons.empty()


def test_who_hangs_elsewhere_is_ended(monkeypatch, capsys):
    """The main thread does not come back; its process ends with the message."""
    ended = []
    monkeypatch.setattr(peers_module, "_GRACE", 0.2)
    monkeypatch.setattr(peers_module.os, "_exit", ended.append)

    def job(index, peers):
        if index == 1:
            raise UserError("Stop.")
        time.sleep(1.0)
        return "hung"

    results = together(job, size=2)
    assert results[0] == "hung"
    assert ended == [2]
    assert "error: Worker 1" in capsys.readouterr().err


def test_finishing_is_no_death(monkeypatch):
    monkeypatch.setattr(peers_module, "_GRACE", 0.0)
    monkeypatch.setattr(peers_module.os, "_exit", lambda status: pytest.fail("ended"))

    def job(index, peers):
        peers.gather(None)
        time.sleep(0.3 * index)

    assert together(job) == [None] * 3


def test_who_finishes_early_is_named():
    def job(index, peers):
        if index == 0:
            return peers.gather(None)
        return None

    results = together(job, size=2)
    assert "Worker 1 at" in str(results[0])
    assert "has finished already" in str(results[0])


def test_differences_are_named_on_all():
    def job(index, peers):
        batch_size = 8 if index == 2 else 4
        agree(peers, {"train": {"batch_size": batch_size}}, "Run the same command.")

    errors = together(job)
    assert isinstance(errors[0], UserError)
    message = str(errors[0])
    assert {str(error) for error in errors} == {message}
    assert "worker 0 -> worker 2: train.batch_size: 4 -> 8" in message
    assert message.endswith("Run the same command.")

    digests = message.split("Digests: ")[1].split(".")[0].split(", ")
    first, second, third = (digest.split()[-1] for digest in digests)
    assert first == second != third


def test_a_single_worker_has_nobody_to_wait_for():
    with SingleWorker() as peers:
        assert peers.is_chief
        assert peers.gather("x") == ["x"]
        assert peers.explain(ValueError()) is None
        agree(peers, {"a": 1}, "")
