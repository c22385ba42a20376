"""How the arithmetic of a model runs: dials for speed and memory that change its numbers by rounding at most.

They are set while a function is traced and read where the arithmetic is written, so models need not pass them on:

    with execution.using(Execution(rematerialise=True)):
        outputs = model(image)          # its `iterate` recomputes activations in the backward pass

On a CPU, convolutions are fastest as single kernels of an ordinary graph. On a GPU or TPU, XLA compiles the whole step.
"""

import contextlib
import contextvars
import dataclasses


@dataclasses.dataclass(frozen=True)
class Execution:
    """The dials; the default is plain TensorFlow."""

    xla: bool = False
    """XLA compiles the whole forward and backward pass."""
    rematerialise: bool = False
    """Loops over refinement steps keep only the state between steps and recompute the rest in the backward pass."""


_current = contextvars.ContextVar("execution", default=Execution())


def current():
    """Returns the `Execution` that the code being traced should use."""
    return _current.get()


@contextlib.contextmanager
def using(execution):
    """Sets the `Execution` of what is traced inside."""
    token = _current.set(execution)
    try:
        yield
    finally:
        _current.reset(token)
