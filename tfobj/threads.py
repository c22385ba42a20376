"""One thread that reads ahead and one that writes behind, both in order and with bounded memory."""

import collections
import concurrent.futures
import contextlib
import queue
import threading

_PATIENCE = 0.1
"""Seconds after which a waiting reader looks whether anybody still wants its items."""


class _End:
    """After the last item of `read_ahead`: the exception that ended it, or None."""

    def __init__(self, error=None):
        self.error = error


@contextlib.contextmanager
def read_ahead(items, limit):
    """Has a thread read up to `limit` of `items` before they are asked for.

    Args:
      items: iterable; it is used by the thread alone.
      limit: at least 1.

    Yields:
      An iterator over the items, which raises what `items` raise. When the block is left, the
      thread ends after the item that it is reading.
    """
    ready = queue.Queue(limit)
    stopped = threading.Event()

    def put(item):
        """Returns whether there was room before the block was left."""
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=_PATIENCE)
                return True
        return False

    def read():
        end = _End()
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as e:  # Handed over to the thread that asks.
            end = _End(e)
        put(end)

    def results():
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield results()
    finally:
        stopped.set()
        thread.join()


class WriteBehind:
    """A context in which a thread makes calls, in the order in which they were handed over.

    When the block ends, all of them have been made; when it is left by an exception, the call that
    is under way is finished and the others are dropped.

    Args:
      limit: calls that may wait; `do` waits for room.
    """

    def __init__(self, limit):
        self._limit = limit
        self._pending = collections.deque()
        self._thread = concurrent.futures.ThreadPoolExecutor(1)

    def do(self, function, *arguments):
        """Hands over a call; raises what an earlier one raised."""
        while len(self._pending) >= self._limit or (self._pending and self._pending[0].done()):
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(function, *arguments))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            while error is None and self._pending:
                self._pending.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)
