"""Workers as threads of one process: how they find each other, and what is said if they do not."""

import concurrent.futures
import contextlib
import socket
import time

import pytest
from worker_threads import free_addresses, silent  # this folder's

from tfobj.errors import UserError
from tfobj.training import meeting
from tfobj.training.cluster import Cluster
from tfobj.training.meeting import connect_workers
from tfobj.training.peers import SingleWorker


@pytest.fixture
def addresses():
    """Three free addresses."""
    return free_addresses()


@pytest.fixture
def pool():
    """Threads in which workers wait for each other."""
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        yield threads


def test_one_alone_waits_for_nobody():
    assert isinstance(connect_workers(Cluster(("localhost:1",), 0)), SingleWorker)


@pytest.mark.parametrize(
    "index, missing", [(0, "worker 1 at {1}; worker 2 at {2}"), (2, "the chief, worker 0 at {0} (")]
)
def test_who_does_not_come_is_named(addresses, index, missing):
    said = []
    with pytest.raises(UserError, match="Waited 2.5 seconds") as error:
        connect_workers(Cluster(addresses, index), patience=2.5, say=said.append)
    missing = missing.format(*addresses)
    assert missing in str(error.value)
    assert "TF_CONFIG" in str(error.value)
    assert len(said) == 1
    assert said[0].startswith(f"Waiting for {missing}")


def test_a_taken_port_is_named(addresses):
    port = int(addresses[1].rpartition(":")[2])
    with (
        socket.create_server(("", port)),
        pytest.raises(UserError, match="worker 1 at .*, which cannot be had"),
    ):
        connect_workers(Cluster(addresses, 1))


def test_two_workers_cannot_have_the_same_index(addresses, pool):
    chief = pool.submit(connect_workers, Cluster(addresses, 0), 3.0, silent)
    clock = meeting._Clock(10.0, silent)
    with meeting._own_address(Cluster(addresses, 1)):
        first = pool.submit(meeting._call_chief, Cluster(addresses, 1), clock)
        second = pool.submit(meeting._call_chief, Cluster(addresses, 1), clock)
        errors = [str(future.exception()) for future in (first, second)]
        assert "Waited 3 seconds for worker 2" in str(chief.exception())
    assert sum("Two processes call themselves worker 1" in e for e in errors) == 1
    assert sum("gave up. Waited 3 seconds" in e for e in errors) == 1


def test_other_clusters_are_refused(addresses, pool):
    other = Cluster((addresses[0], addresses[2]), 1)
    chief = pool.submit(connect_workers, Cluster(addresses[:2], 0), 2.0, silent)
    worker = pool.submit(connect_workers, other, 10.0, silent)
    assert "TF_CONFIG must name the same workers everywhere" in str(worker.exception())
    assert "Waited 2 seconds for worker 1" in str(chief.exception())


def test_a_worker_that_the_chief_cannot_reach_is_refused(addresses, pool):
    unknown = (addresses[0], "unknown.invalid:" + addresses[1].rpartition(":")[2])
    chief = pool.submit(connect_workers, Cluster(unknown, 0), 2.0, silent)
    worker = pool.submit(connect_workers, Cluster(unknown, 1), 10.0, silent)
    assert "has called the chief, but cannot be reached there" in str(worker.exception())
    assert isinstance(chief.exception(), UserError)


def test_strangers_at_the_door_are_sent_away(addresses, pool):
    chief = pool.submit(connect_workers, Cluster(addresses[:2], 0), 20.0, silent)
    knock(addresses[0])
    worker = pool.submit(connect_workers, Cluster(addresses[:2], 1), 20.0, silent)
    with worker.result() as one, chief.result() as other:
        values = pool.submit(one.gather, 1)
        assert other.gather(0) == [0, 1]
        assert values.result() == [0, 1]


def knock(address):
    """Sends what is no greeting, as soon as someone listens."""
    for _ in range(100):
        with contextlib.suppress(OSError), meeting._connect(address) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return
        time.sleep(0.05)
