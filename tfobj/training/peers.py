"""The other workers of a run, and a line between each of them and the chief.

TensorFlow connects workers for the sums of gradients. It waits for a missing one without a word and without an
end, holding Python's lock, and has many messages for one that dies. So the workers meet here first, over TCP
at the chief's address, and keep that line:

    peers = meet(read_cluster(), patience=300)    # returns when all are there
    with peers:
        peers.gather(value)                       # everyone's values in the order of the workers, on all of them

The kernel closes a process' connections when it ends, however it ends: the line tells of a death at once. An
exception that leaves the block of one worker ends all of them, with its message. A line carries JSON, one object
per row. Nothing in this file needs TensorFlow.
"""

import contextlib
import hashlib
import json
import os
import queue
import socket
import sys
import threading
import time

from tfobj.config import differences
from tfobj.errors import UserError
from tfobj.training.cluster import VARIABLE

PATIENCE = 300.0
"""Seconds that a worker waits for the others at the start."""

_GRACE = 2.0
"""Seconds that a worker has to notice by itself that another one is gone; then its process is ended, for it hangs in a sum."""
_ANSWER = 20.0
"""Seconds in which a chief answers to its name."""
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}
"""A machine that is switched off is missed after half a minute."""
_LOST = 2
"""Exit status of a process that is ended because another one is gone."""


def agree(peers, facts, advice):
    """Returns if all workers have the same `facts`, a JSON object.

    Raises:
      UserError: on all of them, with what differs, everyone's digest, and `advice`.
    """
    everyone = peers.gather(facts)
    lines = [
        f"worker 0 -> worker {i}: {line}"
        for i, other in enumerate(everyone)
        for line in differences(everyone[0], other)
    ]
    if lines:
        digests = ", ".join(
            f"worker {i} {hashlib.sha256(json.dumps(f, sort_keys=True).encode()).hexdigest()[:12]}"
            for i, f in enumerate(everyone)
        )
        raise UserError(f"The workers differ ({'; '.join(lines)}). Digests: {digests}. {advice}")


class Alone:
    """The peers of a process that has none."""

    index, size, is_chief = 0, 1, True

    def gather(self, value):
        """Returns [value]."""
        return [value]

    def explain(self, error):
        """Returns None: an error is nobody else's."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class Peers:
    """The other workers, once all have met; made by `meet`. Every worker calls `gather` equally often."""

    def __init__(self, cluster, lines):
        """Args: cluster: `Cluster`; lines: index -> `_Line`, of the chief to everyone, of a worker to the chief."""
        self.cluster, self.index, self.size, self.is_chief = (
            cluster,
            cluster.index,
            cluster.size,
            cluster.index == 0,
        )
        self._lines = lines
        self._inbox = {index: queue.SimpleQueue() for index in lines}
        self._loss, self._lost, self._closed, self._lock = (
            None,
            threading.Event(),
            threading.Event(),
            threading.Lock(),
        )
        for index in lines:
            threading.Thread(target=self._listen, args=[index], daemon=True).start()

    def gather(self, value):
        """Returns every worker's `value` (JSON) as a list; waits for the slowest.

        Raises:
          UserError: a worker is gone, with what is known of the reason.
        """
        if not self.is_chief:
            self._send(0, {"value": value})
            return self._receive(0)
        values = [value] + [self._receive(index) for index in range(1, self.size)]
        for index in self._lines:
            self._send(index, {"value": values})
        return values

    def explain(self, error):
        """Returns the `UserError` that is behind an `error` of TensorFlow: a worker that is gone. None if all are there."""
        # The broken connection of TensorFlow and that of the line break within moments, in any order.
        return UserError(self._loss) if self._lost.wait(_ANSWER) else None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self._closed.set()
        reason = (
            None
            if error is None
            else str(error)
            if isinstance(error, UserError)
            else f"{kind.__name__}: {error}".rstrip(": ")
        )
        with self._lock:  # the others must hear of a loss before these lines close, or they take this worker for the lost one
            if self._loss is None:
                for index in self._lines:
                    text = reason and f"{_capital(self.cluster.name(self.index))} stopped. {reason}"
                    self._send(index, {"left": text})
        for line in self._lines.values():
            line.close()

    def _receive(self, index):
        message = self._inbox[index].get()
        if message is None and self._loss is not None:
            raise UserError(self._loss)
        if message is None:
            raise UserError(
                f"{_capital(self.cluster.name(index))} has finished already; all workers must make the same steps."
            )
        return message["value"]

    def _send(self, index, message):
        with contextlib.suppress(OSError):  # the listener of this line tells what happened
            self._lines[index].send(message)

    def _listen(self, index):
        """Hands on what a worker says, until its line ends."""
        loss = (
            f"{_capital(self.cluster.name(index))} is gone: it was killed, or its machine or the network is down. All workers stop. "
            "The checkpoints are intact; start all workers again to continue."
        )
        with contextlib.suppress(OSError, ValueError):
            while (message := self._lines[index].receive()) is not None:
                if "left" in message:
                    loss = message["left"]
                    break
                self._inbox[index].put(message)
        if loss and not self._closed.is_set():
            self._lose(loss)
        self._inbox[index].put(None)

    def _lose(self, loss):
        with self._lock:
            if self._loss is not None:
                return
            self._loss = loss
            for index in self._lines:
                self._send(index, {"left": loss})  # the chief tells the others
        self._lost.set()
        for inbox in self._inbox.values():
            inbox.put(None)
        if not self._closed.wait(_GRACE):
            print(f"error: {loss}", file=sys.stderr, flush=True)
            os._exit(_LOST)  # the main thread waits for a sum that will not come


def meet(cluster, patience=PATIENCE, say=lambda text: print(text, file=sys.stderr, flush=True)):
    """Waits until all workers of `cluster` are there.

    Args:
      cluster: `Cluster`.
      patience: seconds to wait for the others.
      say: is called with a line of text when there is something to wait for.

    Returns:
      `Peers`, or `Alone` in a cluster of one.

    Raises:
      UserError: someone did not come; the address of this worker is taken; two processes claim one place, or have other clusters.
    """
    if cluster.size == 1:
        return Alone()
    clock = _Clock(patience, say)
    with _own_address(
        cluster
    ) as listener:  # a worker's too: the chief tries whether it can be reached
        return Peers(
            cluster,
            _await_workers(cluster, listener, clock)
            if cluster.index == 0
            else {0: _call_chief(cluster, clock)},
        )


def leave(peers, status):
    """Ends a process that is one of several workers, at once; returns in one that is alone.

    TensorFlow's own way out waits for workers that are gone, and complains about those that were quicker.
    """
    if peers.size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Clock:
    """Says now and then what is waited for, until patience ends."""

    def __init__(self, patience, say):
        self.patience, self.say, self.start, self.next = patience, say, time.monotonic(), 2.0

    def check(self, missing):
        """Raises a `UserError` if it is too late for `missing`, a text."""
        waited = time.monotonic() - self.start
        if waited > self.patience:
            raise UserError(
                f"Waited {self.patience:g} seconds for {missing}. Every worker runs the same command, each with its own index "
                f"in {VARIABLE}; the addresses must be reachable from all of them."
            )
        if waited >= self.next:
            self.say(f"Waiting for {missing} ({waited:.0f} of at most {self.patience:g} seconds).")
            self.next = waited + 10.0


def _await_workers(cluster, listener, clock):
    """The chief's side: returns index -> line when everyone has called."""
    lines = {}
    listener.settimeout(0.2)
    try:
        while len(lines) < cluster.size - 1:
            clock.check(
                "; ".join(
                    cluster.name(index) for index in range(1, cluster.size) if index not in lines
                )
            )
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                line = _Line(connection)
                index, mistake = _greet(cluster, line, lines)
                if mistake:
                    clock.say(mistake)
                    line.send({"refused": mistake})
                if mistake or index is None:
                    line.close()
                    continue
                lines[index] = line
        for line in lines.values():
            line.send({"complete": True})
    except BaseException as e:
        for line in lines.values():
            with contextlib.suppress(OSError):
                line.send({"refused": f"{_capital(cluster.name(0))} gave up. {e}"})
            line.close()
        raise
    return lines


def _greet(cluster, line, lines):
    """Returns (index, mistake) of who calls; (None, None) of a stranger."""
    try:
        hello = line.receive(timeout=5.0)
        index, addresses = hello["worker"], hello["addresses"]
    except (OSError, ValueError, TypeError, KeyError):
        return None, None
    if addresses != list(cluster.addresses):
        return None, (
            f"{VARIABLE} must name the same workers everywhere. The chief has {', '.join(cluster.addresses)}; "
            f"a process that calls itself worker {index} has {', '.join(addresses)}."
        )
    if index in lines and lines[index].is_open():
        return (
            None,
            f"Two processes call themselves {cluster.name(index)}; each needs its own index in {VARIABLE}.",
        )
    try:
        _connect(addresses[index]).close()
    except OSError as e:
        return None, (
            f"{_capital(cluster.name(index))} has called the chief, but cannot be reached there ({e.strerror or e}). "
            f"Give its address in {VARIABLE} as the other machines see it."
        )
    line.send({"seen": True})
    return index, None


def _call_chief(cluster, clock):
    """A worker's side: returns the line to the chief when everyone is there."""
    reason = ""
    while True:
        clock.check(cluster.name(0) + reason)
        try:
            line = _Line(_connect(cluster.addresses[0]))
        except OSError as e:
            reason = f" ({e.strerror or e})"
            time.sleep(0.2)
            continue
        try:
            line.send({"worker": cluster.index, "addresses": cluster.addresses})
            answer = line.receive(timeout=_ANSWER)
            known = isinstance(answer, dict) and ("seen" in answer or "refused" in answer)
        except (OSError, ValueError):
            known = False
        if (
            not known
        ):  # a chief that is being started anew has not listened yet, or its predecessor still runs
            line.close()
            reason = ": something else answers there"
            time.sleep(0.5)
            continue
        if "seen" in answer:
            clock.check(f"the others ({cluster.name(0)} is there)")
            try:
                answer = line.receive()
            except (OSError, ValueError):
                answer = None
        if answer is None:
            line.close()
            reason = ": it was there, and left"
        elif "refused" in answer:
            line.close()
            raise UserError(answer["refused"])
        else:
            return line


class _Line:
    """A connection that carries JSON objects."""

    def __init__(self, connection):
        self._socket, self._lock = connection, threading.Lock()
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._rest = b""

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
        return json.loads(row)

    def is_open(self):
        """Whether the other side is there; for a line that nobody reads from now."""
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
    """Returns a socket that listens on this worker's port, on all interfaces; TensorFlow gets the port afterwards."""
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
            f"{VARIABLE} gives this process port {port} ({cluster.name(cluster.index)}), which cannot be had "
            f"({getattr(e, 'strerror', None) or e}). Is an earlier run still there?"
        ) from e


def _connect(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=5.0)


def _capital(text):
    return text[0].upper() + text[1:]
