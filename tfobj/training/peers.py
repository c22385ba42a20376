"""The other workers of a run: values from all of them, and word of one that is gone.

    with connect_workers(read_cluster()) as peers:    # see `meeting`
        peers.gather(value)                           # every worker's value, on all of them

Every worker keeps a TCP connection to the chief, over which the workers met. The kernel closes the
connections of a process when it ends, however it ends, so a death is known at once. An exception
that leaves the block of one worker ends all of them, with its message.

TensorFlow's coordination service could do a part of this. Measured with TensorFlow 2.21 and two
processes on one machine, heartbeats timing out after 10 seconds:

    it waits for missing workers      The chief waited for more than 76 s under a deadline of 8 s,
                                      without a word and holding Python's lock; a worker's deadline
                                      held (13 s under one of 8 s), but it held the lock as well.
    its key-value store               Settings of 4 kB reach the other worker in 1 ms.
    a worker is killed,               The sum of gradients fails after 0.05 s, ...
    or reports an error               ... or after less than 0.01 s, with the reason that it gave.
    a worker stops to answer          The sum fails after 9.6 s.
    any of these while the chief      It was never told (for 42 s): the call for a key goes on
    waits for a key                   waiting. `get_task_states` says so 9 s after a kill, but in
                                      three of three trials of 14 to 28 calls it ended in a crash
                                      (a segmentation fault, or an error in unrelated code).
    the chief reports an error        A worker that waits for a key gets "Socket closed" when the
                                      chief's process ends, and no reason.

So the workers meet by themselves; and since the chief must hear of a death while it waits (it
evaluates and builds data while others wait, and they do the same for it), the connection stays,
which makes the store superfluous. What a sum of gradients finds out by itself is used, and a sum
that waits for somebody who is gone is aborted by TensorFlow's own means (`on_loss`): that freed it
within 2 ms. Nothing in this file needs TensorFlow.
"""

import contextlib
import hashlib
import json
import os
import queue
import sys
import threading

from tfobj.config import differences
from tfobj.errors import UserError

_GRACE = 30.0
"""Seconds that a worker has to leave by itself after another one is gone.

Then its process is ended. An aborted sum returns at once, but whether one inside NCCL does was not
measured.
"""
_LAG = 20.0
"""Seconds from an error of TensorFlow to the news of the loss that is behind it, at most."""
_LOST = 2
"""Exit status of a process that is ended because another one is gone."""


def agree(peers, facts, advice):
    """Returns if all workers have the same `facts`, a JSON object.

    Raises:
      UserError: on all of them, with what differs, everyone's digest, and `advice`.
    """
    everyone = peers.gather(facts)
    lines = [
        f"worker 0 -> worker {index}: {line}"
        for index, other in enumerate(everyone)
        for line in differences(everyone[0], other)
    ]
    if lines:
        digests = [f"worker {index} {_digest(other)}" for index, other in enumerate(everyone)]
        raise UserError(
            f"The workers differ ({'; '.join(lines)}). Digests: {', '.join(digests)}. {advice}"
        )


def _digest(facts):
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


class SingleWorker:
    """The `Peers` of a process that has none."""

    index = 0
    size = 1
    is_chief = True

    def gather(self, value):
        """Returns [value]."""
        return [value]

    def explain(self, error):
        """Returns None: no other worker can be behind an error."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class Peers:
    """The other workers, once all are connected. Every worker calls `gather` equally often.

    Args:
      cluster: `Cluster`.
      connections: worker -> connection; the chief has one to everyone, a worker one to the chief.

    Attributes:
      on_loss: called with the reason when a worker is gone, from another thread.
    """

    def __init__(self, cluster, connections):
        self.cluster = cluster
        self.index = cluster.index
        self.size = cluster.size
        self.is_chief = cluster.index == 0
        self.on_loss = lambda reason: None

        self._connections = connections
        self._inbox = {index: queue.SimpleQueue() for index in connections}
        self._lost_reason = None
        self._lost = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()

        # Daemons: a listener waits for the other side, which may outlive this one.
        for index in connections:
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
        for index in self._connections:
            self._send(index, {"value": values})
        return values

    def when_lost(self, function):
        """Has `function` called with the reason once a worker is gone; at once if one is."""
        # Under the lock of `_lose`, so that one of the two calls it, and only one.
        with self._lock:
            self.on_loss = function
            reason = self._lost_reason
        if reason is not None:
            function(reason)

    def explain(self, error):
        """Returns the `UserError` behind an `error` of TensorFlow; None if no worker is gone."""
        # The connections of TensorFlow and of this class break within moments, in any order.
        if self._lost.wait(_LAG):
            return UserError(self._lost_reason)
        return None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self._closed.set()
        farewell = self._farewell(error)

        # The others must hear of a loss before these connections close, or they take this worker
        # for the lost one.
        with self._lock:
            if self._lost_reason is None:
                for index in self._connections:
                    self._send(index, {"left": farewell})
        for connection in self._connections.values():
            connection.close()

    def _farewell(self, error):
        """Returns what the others are told of an error that leaves the block, None without one."""
        if error is None:
            return None
        reason = str(error)
        if not isinstance(error, UserError):
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
        return f"{self.cluster.capitalized_name(self.index)} stopped. {reason}"

    def _receive(self, index):
        message = self._inbox[index].get()
        if message is not None:
            return message["value"]
        if self._lost_reason is not None:
            raise UserError(self._lost_reason)
        raise UserError(
            f"{self.cluster.capitalized_name(index)} has finished already; all workers must make "
            "the same number of steps."
        )

    def _send(self, index, message):
        with contextlib.suppress(OSError):  # The listener of this connection tells what happened.
            self._connections[index].send(message)

    def _listen(self, index):
        """Hands on what a worker says, until its connection ends."""
        loss = (
            f"{self.cluster.capitalized_name(index)} is gone: it was killed, or its machine or the "
            "network is down. All workers stop. The checkpoints are intact; start all workers "
            "again to resume."
        )
        with contextlib.suppress(OSError, ValueError):
            while (message := self._connections[index].receive()) is not None:
                if "left" in message:
                    loss = message["left"]
                    break
                self._inbox[index].put(message)

        if loss and not self._closed.is_set():
            self._lose(loss)
        self._inbox[index].put(None)

    def _lose(self, reason):
        with self._lock:
            if self._lost_reason is not None:
                return
            self._lost_reason = reason
            on_loss = self.on_loss
            for index in self._connections:
                self._send(index, {"left": reason})  # The chief tells the others.

        # The main thread waits for a value, or for a sum of gradients.
        self._lost.set()
        for inbox in self._inbox.values():
            inbox.put(None)

        # First the fallback: what aborts a sum might block or fail itself.
        threading.Thread(target=self._end_after_grace, args=(reason,), daemon=True).start()
        on_loss(reason)

    def _end_after_grace(self, reason):
        """Ends this process unless it has left by itself in time."""
        if not self._closed.wait(_GRACE):
            print(f"error: {reason}", file=sys.stderr, flush=True)
            os._exit(_LOST)


def leave(peers, status):
    """Ends a process that is one of several workers, at once; returns in one that is alone.

    TensorFlow's own way out waits for workers that are gone, and complains about those that were
    quicker.
    """
    if peers.size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
