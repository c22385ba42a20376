"""Batches on the device before they are needed. It needs JAX and NumPy alone."""

import queue
import threading

PREFETCHED = 4
"""Batches on the device before they are needed."""


class Batches:
    """The images of a run's batches, put together by a thread ahead of their use.

    Args:
      jax: the module, from `program.start_jax`.
      stream: `BatchStream`.
      first, last: the first step, and the one after the last.
    """

    def __init__(self, jax, stream, first, last):
        self._jax = jax
        self._stream = stream
        self._first = first
        self._last = last
        self._ready = queue.Queue(PREFETCHED)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._prepare, daemon=True)

    def next(self):
        """Returns the images of the next batch; raises what the thread met."""
        image = self._ready.get()
        if isinstance(image, Exception):
            raise image
        return image

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stopped.set()
        self._thread.join()

    def _prepare(self):
        try:
            for step in range(self._first, self._last):
                if not self._put(self._jax.device_put(self._stream.batch(step)["image"])):
                    return
        except Exception as e:  # Handed over to the thread that waits.
            self._put(e)

    def _put(self, item):
        """Returns whether the item was taken; a thread that waits for room must hear of the end."""
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False
