"""Counts the arithmetic of a traced function from its graph.

`count_flops` adds up 2 * (multiply-accumulates) of the convolutions and matrix products, from
static shapes. It walks backwards from the function's outputs and side effects, into called
functions too (gradients, compiled functions, branches, loops), and follows only outputs that are
used. So gradients that the trace mentions and nothing reads, which TensorFlow prunes before it runs
the graph, are not counted. Taps on zero padding count as if they were pixels; element-wise
operations and reductions do not count: the usual nominal count.
"""

import math

import tensorflow as tf

_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def count_flops(function):
    """Returns the floating-point operations of one call of a concrete function.

    Args:
      function: `ConcreteFunction` whose convolutions and matrix products have static shapes.

    Returns:
      int; None if the number of rounds of a loop with arithmetic in it, or a shape, is not known
      from the graph.
    """
    try:
        total, _ = _Counter().count(function.graph, range(len(function.graph.outputs)))
    except _UnknownError:
        return None
    return total


class _UnknownError(Exception):
    """The graph does not tell."""


class _Counter:
    """Counts (function, used outputs) pairs, each once."""

    def __init__(self):
        self._known = {}

    def count(self, graph, used):
        """Returns (operations, used inputs) of a function's graph whose outputs `used` are read."""
        key = (id(graph), frozenset(used))
        if key not in self._known:
            self._known[key] = self._count(graph, used)
        return self._known[key]

    def _count(self, graph, used):
        # Operation that runs -> its outputs that are read.
        read = {op: set() for op in graph.control_outputs}
        for i in used:
            read.setdefault(graph.outputs[i].op, set()).add(graph.outputs[i].value_index)

        # In the order of construction an operation stands after what it reads.
        total = 0
        for op in reversed(graph.get_operations()):
            if op not in read:
                continue
            operations, inputs = self._operation(graph, op, read[op])
            total += operations
            for i in inputs:
                read.setdefault(op.inputs[i].op, set()).add(op.inputs[i].value_index)
            for before in op.control_inputs:
                read.setdefault(before, set())
        return total, frozenset(i for i, tensor in enumerate(graph.inputs) if tensor.op in read)

    def _operation(self, graph, op, outputs):
        """Returns (operations, used inputs) of one node."""
        if op.type in _CALLS:
            return self.count(_body(graph, op, "f"), sorted(outputs))
        if op.type in _BRANCHES:
            branches = [
                self.count(_body(graph, op, name), sorted(outputs))
                for name in ("then_branch", "else_branch")
            ]
            inputs = {0} | {i + 1 for _, used in branches for i in used}
            # The larger branch counts, as nothing says which one runs.
            return max(operations for operations, _ in branches), frozenset(inputs)

        inputs = frozenset(range(len(op.inputs)))
        if op.type in _LOOPS:
            body = _body(graph, op, "body")
            operations, _ = self.count(body, range(len(body.outputs)))
            return operations and operations * _num_rounds(op), inputs
        return _ARITHMETIC.get(op.type, lambda op: 0)(op), inputs


def _body(graph, op, attribute):
    """Returns the graph of the function that `op` calls."""
    # No public way leads from a name to its function.
    return graph._get_function(op.get_attr(attribute).name).graph


def _num_rounds(op):
    """Returns how often a loop goes round.

    Its second input is the bound that `tf.while_loop` was given.
    """
    bound = tf.get_static_value(op.inputs[1])
    if bound is None or bound < 0:
        raise _UnknownError
    return int(bound)


def _size(tensor):
    shape = tensor.shape
    if not shape.is_fully_defined():
        raise _UnknownError
    return math.prod(shape.as_list())


def _filter_of_backprop(op):
    """Returns the number of weights of a filter gradient.

    It is known from the constant `filter_sizes` or the inferred shape.
    """
    sizes = tf.get_static_value(op.inputs[1])
    if sizes is None:
        return _size(op.outputs[0])
    return math.prod(int(s) for s in sizes)


def _convolution(op):
    weights = op.inputs[1]
    return 2 * _size(op.outputs[0]) * (_size(weights) // weights.shape[-1])


def _convolution_input_gradient(op):
    """Counts kernel * input channels products for every element of the incoming gradient.

    Transposed convolutions are this operation too.
    """
    weights = op.inputs[1]
    gradient = op.inputs[2]
    return 2 * _size(gradient) * (_size(weights) // weights.shape[-1])


def _convolution_filter_gradient(op):
    gradient = op.inputs[2]
    return 2 * _size(gradient) * (_filter_of_backprop(op) // gradient.shape[-1])


def _matrix_product(op):
    """Counts MatMul and BatchMatMul: the size of the result times the contracted length."""
    transposed = op.get_attr({"MatMul": "transpose_a"}.get(op.type, "adj_x"))
    contracted = op.inputs[0].shape[-2 if transposed else -1]
    if contracted is None:
        raise _UnknownError
    return 2 * _size(op.outputs[0]) * contracted


def _einsum(op):
    """Counts one direct contraction: the product of all index ranges."""
    equation = op.get_attr("equation").decode()
    if len(op.inputs) < 2:
        return 0

    terms = equation.partition("->")[0].split(",")
    ranges = {}
    for term, tensor in zip(terms, op.inputs, strict=True):
        _size(tensor)
        before, _, after = term.partition("...")
        sizes = tensor.shape.as_list()
        spread = len(sizes) - len(before) - len(after)
        # Ellipses align at the right.
        labels = [*before, *(f"...{spread - i}" for i in range(spread)), *after]
        for label, size in zip(labels, sizes, strict=True):
            ranges[label] = max(size, ranges.get(label, 1))
    return 2 * math.prod(ranges.values())


_ARITHMETIC = {
    "Conv2D": _convolution,
    "Conv2DBackpropInput": _convolution_input_gradient,
    "Conv2DBackpropFilter": _convolution_filter_gradient,
    "MatMul": _matrix_product,
    "BatchMatMul": _matrix_product,
    "BatchMatMulV2": _matrix_product,
    "BatchMatMulV3": _matrix_product,
    "Einsum": _einsum,
}
