"""Workers as threads of one process, for test_peers.py and test_meeting.py."""

import concurrent.futures
import contextlib
import socket

from tfobj.training.cluster import Cluster
from tfobj.training.meeting import connect_workers


def silent(text):
    """Says nothing, in the place of `say`."""


def free_addresses(count=3):
    """Returns addresses with free ports; they are given back just before they are used."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return tuple(f"localhost:{s.getsockname()[1]}" for s in sockets)


def together(job, size=3):
    """Runs job(index, peers) as workers and returns their results or exceptions."""
    addresses = free_addresses(size)

    def worker(index):
        cluster = Cluster(addresses, index)
        with connect_workers(cluster, patience=20.0, say=silent) as peers:
            return job(index, peers)

    with concurrent.futures.ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(worker, index) for index in range(size)]
        return [future.exception() or future.result() for future in futures]
