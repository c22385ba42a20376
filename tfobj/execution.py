"""How a model computes: options for speed and memory that change its numbers at most by rounding.

They are set while a function is traced and read where the arithmetic is written, so that models
need not pass them on:

    with execution.using(Execution(rematerialise=True)):
        outputs = model(image)          # its `iterate` recomputes activations in the backward pass

On a CPU, convolutions are fastest as single kernels of an ordinary graph. On a GPU or TPU, XLA
compiles the whole step.
"""

import contextlib
import contextvars
import dataclasses


@dataclasses.dataclass(frozen=True)
class Execution:
    """The options; the default is plain TensorFlow."""

    xla: bool = False
    """XLA compiles the whole forward and backward pass."""
    rematerialise: bool = False
    """Loops over refinement steps store only the states and recompute the rest going backwards."""


_PLAIN = Execution()
_current = contextvars.ContextVar("execution", default=_PLAIN)


def current():
    """Returns the `Execution` of the code that is being traced."""
    return _current.get()


@contextlib.contextmanager
def using(execution):
    """Sets the `Execution` of the code that is traced inside."""
    token = _current.set(execution)
    try:
        yield
    finally:
        _current.reset(token)
