"""How the arithmetic of a model runs: dials for speed and memory that change its numbers by rounding at most.

They are set while a function is traced and read where the arithmetic is written, so models need not pass them on:

    with execution.using(Execution(rematerialise=True)):
        outputs = model(image)          # its `iterate` recomputes activations in the backward pass

What runs fastest depends on the processor. On a CPU, convolutions are fastest as single kernels of an ordinary
graph, and chains of element-wise operations are fastest compiled by XLA: such a chain is an `island`. On a GPU or
TPU, XLA compiles the whole step and there is nothing left to do.
"""

import contextlib
import contextvars
import dataclasses
import functools

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Execution:
    """The dials; the default is plain TensorFlow."""

    xla: bool = False
    """XLA compiles the whole forward and backward pass."""
    islands: bool = False
    """XLA compiles the functions that are marked as `island`, each by itself. No effect within `xla`."""
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


def island(function):
    """Marks a function of tensors, made of element-wise operations and reductions, as worth a compilation of its own.

    It must need no Python objects but hashable ones besides tensors, and return tensors (tuples of them).
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*args):
        execution = current()
        return (compiled if execution.islands and not execution.xla else function)(*args)

    return call
