"""Counted operations against counts by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.bench.flops import count_flops

B = 2
H = 6
W = 5
C = 3
D = 4
K = 3
FIRST = 2 * B * H * W * C * D * K**2
SECOND = 2 * B * H * W * D * D * K**2
"""Two convolutions, one pass of each."""


def image():
    return tf.TensorSpec([B, H, W, C])


def weights():
    return tf.Variable(tf.ones([K, K, C, D])), tf.Variable(tf.ones([K, K, D, D]))


def network(x, first, second):
    return tf.nn.conv2d(tf.nn.relu(tf.nn.conv2d(x, first, 1, "SAME")), second, 1, "SAME")


def traced(function, *signature, **options):
    return tf.function(function, autograph=False, **options).get_concrete_function(*signature)


def test_a_forward_pass_counts_its_layers():
    first, second = weights()
    assert count_flops(traced(lambda x: network(x, first, second), image())) == FIRST + SECOND


@pytest.mark.parametrize("inside", [False, True], ids=["one graph", "calls"])
@pytest.mark.parametrize("xla", [None, True], ids=["graph", "xla"])
def test_a_training_step_counts_forward_and_gradients(inside, xla):
    """Forward, and the gradients of all weights and of the second layer's input.

    The image needs no gradient.
    """
    first, second = weights()
    net = tf.function(network, jit_compile=xla, autograph=False) if inside else network

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(net(x, first, second) ** 2)
        for variable, gradient in zip(
            (first, second), tape.gradient(loss, (first, second)), strict=True
        ):
            variable.assign_sub(gradient)

    assert count_flops(traced(step, image())) == 2 * FIRST + 3 * SECOND


@pytest.mark.parametrize("inside", [False, True], ids=["one graph", "calls"])
def test_gradients_that_nobody_reads_do_not_count(inside):
    first, second = weights()
    net = tf.function(network, autograph=False) if inside else network

    def inner(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = net(x, first, second)
        dx, _, _ = tape.gradient(y, (x, first, second))
        return dx

    # ReLU's mask needs the first layer; the value of the second is not asked for.
    assert count_flops(traced(inner, image())) in (
        (2 * FIRST + SECOND),
        (2 * FIRST + 2 * SECOND) if inside else 0,
    )


def test_dead_code_does_not_count():
    first, second = weights()

    def function(x):
        network(x, first, second)
        return x + 1.0

    assert count_flops(traced(function, image())) == 0


def test_strides_count_outputs():
    assert (
        count_flops(
            traced(lambda x, w: tf.nn.conv2d(x, w, 2, "SAME"), image(), tf.TensorSpec([K, K, C, D]))
        )
        == 2 * B * 3 * 3 * C * D * K**2
    )


def test_transposed_convolution_counts_inputs():
    function = traced(
        lambda x, w: tf.nn.conv2d_transpose(x, w, [B, 2 * H, 2 * W, D], 2),
        image(),
        tf.TensorSpec([K, K, D, C]),
    )
    assert count_flops(function) == 2 * B * H * W * C * D * K**2


@pytest.mark.parametrize(
    "function, shapes, macs",
    [
        (tf.matmul, [(2, 3), (3, 5)], 2 * 3 * 5),
        (
            lambda a, b: tf.matmul(a, b, transpose_a=True, transpose_b=True),
            [(3, 2), (5, 3)],
            2 * 3 * 5,
        ),
        (tf.matmul, [(7, 2, 3), (7, 3, 5)], 7 * 2 * 3 * 5),
        (lambda a, b: tf.matmul(a, b, transpose_a=True), [(7, 3, 2), (7, 3, 5)], 7 * 2 * 3 * 5),
        (lambda a, b: tf.einsum("bij,bjk->bik", a, b), [(7, 2, 3), (7, 3, 5)], 7 * 2 * 3 * 5),
        (lambda a, b: tf.einsum("...j,jk->...k", a, b), [(7, 2, 3), (3, 5)], 7 * 2 * 3 * 5),
        (lambda a: tf.einsum("ij->ji", a), [(2, 3)], 0),
    ],
)
def test_matrix_products_count(function, shapes, macs):
    assert count_flops(traced(function, *map(tf.TensorSpec, shapes))) == 2 * macs


def test_loop_with_a_bound_counts_its_rounds():
    def function(x):
        return tf.while_loop(
            lambda i, x: i < 4, lambda i, x: (i + 1, tf.matmul(x, x)), (0, x), maximum_iterations=4
        )[1]

    assert count_flops(traced(function, tf.TensorSpec([3, 3]))) == 4 * 2 * 27


def test_loop_without_a_bound_is_not_guessed():
    def function(x, n):
        return tf.while_loop(lambda i, x: i < n, lambda i, x: (i + 1, tf.matmul(x, x)), (0, x))[1]

    assert count_flops(traced(function, tf.TensorSpec([3, 3]), tf.TensorSpec([], tf.int32))) is None


def test_loop_without_products_costs_nothing():
    def function(x, n):
        return tf.while_loop(
            lambda i, x: i < n, lambda i, x: (i + 1, x + 1.0), (0, tf.matmul(x, x))
        )[1]

    assert (
        count_flops(traced(function, tf.TensorSpec([3, 3]), tf.TensorSpec([], tf.int32))) == 2 * 27
    )


def test_dearer_branch_counts():
    def function(x):
        return tf.cond(x[0, 0] > 0, lambda: tf.matmul(x, x), lambda: x)

    assert count_flops(traced(function, tf.TensorSpec([3, 3]))) == 2 * 27


def test_unknown_shape_is_not_guessed():
    assert count_flops(traced(lambda x: tf.matmul(x, x), tf.TensorSpec([None, 3]))) is None


def test_iodine_makes_23_decoder_passes():
    """R = 5 refinements: 6 forward, 5 inner gradients, 12 outer gradients of 6 decodes.

    Inner gradients are those of the latents, outer ones those of inputs and weights. The first
    decoder layer is a matrix product and the refinement network small, hence the tolerance. A
    coordinate map is no latent, so its input gradient exists nowhere.
    """
    from tfobj.training.experiment import build_model, resolve

    experiment = resolve(
        "iodine",
        "tetris",
        overrides={
            "model.refinement_channels": (1,),
            "model.refinement_kernel": 1,
            "model.refinement_mlp": (1,),
        },
    )
    model = build_model(experiment)
    batch = {"image": tf.TensorSpec([1, 35, 35, 3])}
    step = traced(
        lambda batch, seed, step: model.loss_and_gradients(batch, seed, step)[1:],
        batch,
        tf.TensorSpec([3], tf.int32),
        tf.TensorSpec([], tf.int64),
    )
    decode = count_flops(traced(lambda z: model.render(z), tf.TensorSpec([1, 4, 32])))
    np.testing.assert_allclose(count_flops(step) / decode, 23, rtol=0.02)
    inference = traced(
        lambda x, seed: model(x, seed=seed).masks, batch["image"], tf.TensorSpec([3], tf.int32)
    )
    np.testing.assert_allclose(count_flops(inference) / decode, 11, rtol=0.02)
