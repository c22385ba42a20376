"""How the workers of a run find each other: over TCP, at the chief's address in TF_CONFIG.

    peers = connect_workers(read_cluster(), patience=300)    # returns when all are there

TensorFlow connects workers for the sums of gradients. It waits for a missing one without a word
and without an end, holding Python's lock (`peers` has the measurement), so the workers meet here
first. Here each says what it waits for, and mistakes in TF_CONFIG are named: other clusters, two
processes in one place, an address that the chief cannot reach.

A connection carries JSON, one object per line:

    worker -> chief    {"worker": index, "addresses": [...]}
    chief -> worker    {"seen": true}, and {"complete": true} when all are there
                       or {"refused": reason}

Nothing in this file needs TensorFlow.
"""

import contextlib
import json
import socket
import sys
import threading
import time

from tfobj import files
from tfobj.errors import UserError
from tfobj.training.cluster import VARIABLE
from tfobj.training.peers import Peers, SingleWorker

PATIENCE = 300.0
"""Seconds that a worker waits for the others at the start."""

_ANSWER = 20.0
"""Seconds in which a chief answers to its name."""
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}
"""Socket options: a machine that is switched off is missed after half a minute."""


def _print(text):
    print(text, file=sys.stderr, flush=True)


def connect_workers(cluster, patience=PATIENCE, say=_print):
    """Waits until all workers of `cluster` are connected.

    Args:
      cluster: `Cluster`.
      patience: seconds to wait for the others.
      say: called with a line of text when there is something to wait for.

    Returns:
      `Peers`, or `SingleWorker` in a cluster of one.

    Raises:
      UserError: someone did not come; the address of this worker is taken; two processes claim one
        place, or have other clusters.
    """
    if cluster.size == 1:
        return SingleWorker()

    clock = _Clock(patience, say)
    # A worker listens too, because the chief tries whether its address can be reached.
    with _own_address(cluster) as listener:
        if cluster.index == 0:
            connections = _await_workers(cluster, listener, clock)
        else:
            connections = {0: _call_chief(cluster, clock)}
        return Peers(cluster, connections)


class _Clock:
    """Says now and then what is waited for, until patience ends."""

    def __init__(self, patience, say):
        self.patience = patience
        self.say = say
        self._start = time.monotonic()
        self._next = 2.0

    def check(self, missing):
        """Raises a `UserError` if it is too late for `missing`, a text."""
        waited = time.monotonic() - self._start
        if waited > self.patience:
            raise UserError(
                f"Waited {self.patience:g} seconds for {missing}. Every worker runs the same "
                f"command, each with its own index in {VARIABLE}; the addresses must be reachable "
                "from all of them."
            )
        if waited >= self._next:
            self.say(f"Waiting for {missing} ({waited:.0f} of at most {self.patience:g} seconds).")
            self._next = waited + 10.0


def _await_workers(cluster, listener, clock):
    """The chief's side: returns index -> connection when everyone has called."""
    connections = {}
    listener.settimeout(0.2)  # So that the clock is looked at while nobody calls.

    try:
        while len(connections) < cluster.size - 1:
            missing = [index for index in range(1, cluster.size) if index not in connections]
            clock.check("; ".join(map(cluster.name, missing)))
            with contextlib.suppress(TimeoutError):
                accepted, _ = listener.accept()
                _admit(cluster, _Connection(accepted), connections, clock.say)
        for connection in connections.values():
            connection.send({"complete": True})
    except BaseException as e:
        for connection in connections.values():
            with contextlib.suppress(OSError):
                connection.send({"refused": f"{cluster.capitalized_name(0)} gave up. {e}"})
            connection.close()
        raise
    return connections


def _admit(cluster, connection, connections, say):
    """Adds a connection under the index of the worker that calls, or closes it."""
    try:
        hello = connection.receive(timeout=5.0)
        index = hello["worker"]
        addresses = hello["addresses"]
    except (OSError, ValueError, TypeError, KeyError):  # A stranger at the door.
        connection.close()
        return

    # A worker that is refused hears why, and so does the chief's user.
    mistake = _mistake(cluster, index, addresses, connections)
    if mistake:
        say(mistake)
        connection.send({"refused": mistake})
        connection.close()
        return

    connection.send({"seen": True})
    connections[index] = connection


def _mistake(cluster, index, addresses, connections):
    """Returns what is wrong with a worker that calls, None if nothing is."""
    if addresses != list(cluster.addresses):
        return (
            f"{VARIABLE} must name the same workers everywhere. The chief has "
            f"{', '.join(cluster.addresses)}; a process that calls itself worker {index} has "
            f"{', '.join(addresses)}."
        )

    # A worker that was started again may take the place of its dead predecessor.
    if index in connections and connections[index].is_open():
        return (
            f"Two processes call themselves {cluster.name(index)}; each needs its own index in "
            f"{VARIABLE}."
        )
    try:
        _connect(addresses[index]).close()
    except OSError as e:
        return (
            f"{cluster.capitalized_name(index)} has called the chief, but cannot be reached there "
            f"({e.strerror or e}). Give its address in {VARIABLE} as the other machines see it."
        )
    return None


def _call_chief(cluster, clock):
    """A worker's side: returns the connection to the chief when everyone is there."""
    reason = ""
    while True:
        clock.check(cluster.name(0) + reason)
        try:
            connection = _Connection(_connect(cluster.addresses[0]))
        except OSError as e:
            reason = f" ({e.strerror or e})"
            time.sleep(0.2)
            continue

        answer = _introduce(cluster, connection)
        if answer is None:
            # A chief that is being started anew has not listened yet, or its predecessor still
            # runs.
            connection.close()
            reason = ": something else answers there"
            time.sleep(0.5)
            continue

        if "seen" in answer:
            clock.check(f"the others ({cluster.name(0)} is there)")
            answer = _wait_for_the_others(connection)
        if answer is None:
            connection.close()
            reason = ": it was there, and left"
        elif "refused" in answer:
            connection.close()
            raise UserError(answer["refused"])
        else:
            return connection


def _introduce(cluster, connection):
    """Says who this worker is; returns the chief's answer, None if no chief answers."""
    try:
        connection.send({"worker": cluster.index, "addresses": cluster.addresses})
        answer = connection.receive(timeout=_ANSWER)
    except (OSError, ValueError):
        return None
    is_chief = isinstance(answer, dict) and ("seen" in answer or "refused" in answer)
    return answer if is_chief else None


def _wait_for_the_others(connection):
    try:
        return connection.receive()
    except (OSError, ValueError):
        return None


class _Connection:
    """A TCP connection that carries JSON objects."""

    def __init__(self, connection):
        self._socket = connection
        self._lock = threading.Lock()
        self._rest = b""

        # Without NODELAY a short message waits for the answer to the one before.
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def send(self, message):
        with self._lock:
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout=None):
        """Returns the next object, or None at the end."""
        self._socket.settimeout(timeout)
        while b"\n" not in self._rest:
            piece = self._socket.recv(1 << 16)
            if not piece:
                return None
            self._rest += piece
        self._socket.settimeout(None)

        row, _, self._rest = self._rest.partition(b"\n")
        return files.parse_json(row, "a message")

    def is_open(self):
        """Whether the other side is there; only for a connection that nobody reads now."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _own_address(cluster):
    """Returns a socket that listens on this worker's port, on all interfaces.

    TensorFlow gets the port afterwards.
    """
    port = int(cluster.addresses[cluster.index].rpartition(":")[2])
    both = socket.has_dualstack_ipv6()

    try:
        return socket.create_server(
            ("", port),
            family=socket.AF_INET6 if both else socket.AF_INET,
            dualstack_ipv6=both,
            backlog=cluster.size,
        )
    except (OSError, OverflowError) as e:
        raise UserError(
            f"{VARIABLE} gives this process port {port} ({cluster.name(cluster.index)}), which "
            f"cannot be had ({getattr(e, 'strerror', None) or e}). Is an earlier run still there?"
        ) from e


def _connect(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=5.0)
