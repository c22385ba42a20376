"""Compositing objects by depth, hard and soft (Anciukevicius et al. 2020, Eq. 7-12).

J objects with coverage alpha_j(p) in [0, 1] and depth d_j, smaller is nearer, lie over a
background. Every rule returns weights that sum to one over the objects and the background, which
comes last:

    mu(p) = sum_j W_j(p) x_j(p) + W_bg(p) x_bg(p)

    hard        W_j = alpha_j prod_{k != j} (1 - alpha_k [d_k < d_j])
                the painter's loop from far to near, without a sort
    soft_over   the same with s_jk = sigmoid((d_j - d_k) / gamma) for the indicator, rescaled so
                that the objects share O = 1 - prod_k (1 - alpha_k); equals `hard` for gamma -> 0
    softras     W_j = alpha_j exp((1 - d_j) / gamma) / S, W_bg = exp(epsilon / gamma) / S
                (Liu et al. 2019, Eq. 5, literally)
    softras_or  the objects share O in the proportions of softras

`softras` makes a faint object opaque where it is alone: its weight there is
alpha / (alpha + exp(-(1 - d - epsilon) / gamma)). So that this does not show the rounding of
placement by Fourier transforms, alphas below `LEAST_ALPHA` are zero to both softras orders. The
paper names Liu et al. for its soft order and gives no formula.
"""

import tensorflow as tf

from tfobj.nn import slots

MAXIMUM_ALPHA = 1.0 - 1e-6
"""Keeps the logarithm of an object's transmittance finite."""
LEAST_ALPHA = 1e-6
"""Least coverage that the softras orders take for an object: several times the rounding that
`nn.placement.place` leaves beside opaque objects, 1e-7."""
BACKGROUND_NEARNESS = 1e-3
"""epsilon of Liu et al. 2019."""
_ABSENT = -1e30
"""Logarithm of no coverage, finite so that a pixel without any object has a gradient."""


def hard_weights(alphas, depths):
    """Returns the weights under true occlusion.

    Args:
      alphas: float32 [B, J, H, W, 1] in [0, 1].
      depths: float32 [B, J]; the first of two equal ones is nearer.

    Returns:
      [B, J + 1, H, W, 1], one when summed over axis 1; the background last. No gradient reaches
      `depths`.
    """
    index = tf.range(tf.shape(alphas)[1])
    depths_j = depths[:, :, None]
    depths_k = depths[:, None]
    tie = (depths_k == depths_j) & (index[None, :] < index[:, None])
    nearer = (depths_k < depths_j) | tie  # [B, j, k]: k occludes j

    weights = alphas * _transmittance(alphas, tf.cast(nearer, alphas.dtype))
    return tf.concat([weights, 1.0 - _coverage(alphas)], axis=1)


def soft_weights(alphas, depths, gamma, ordering="soft_over"):
    """Returns weights that have a gradient with respect to the depths wherever objects overlap.

    Args:
      alphas: float32 [B, J, H, W, 1] in [0, 1].
      depths: float32 [B, J] in [0, 1], smaller is nearer.
      gamma: temperature in units of depth, a number or a scalar tensor; 0.1 blurs the order of
        objects that are 0.1 apart.
      ordering: an `Ordering`.

    Returns:
      [B, J + 1, H, W, 1], one when summed over axis 1 (`soft_over`: up to 1e-8 where no object is);
      the background last.
    """
    alphas = tf.minimum(alphas, MAXIMUM_ALPHA)

    if ordering == "soft_over":
        nearer = tf.sigmoid((depths[:, :, None] - depths[:, None]) / gamma)  # [B, j, k]
        nearer *= 1.0 - tf.eye(alphas.shape[1])
        shares = alphas * _transmittance(alphas, nearer)
        coverage = _coverage(alphas)
        weights = shares * coverage / (tf.reduce_sum(shares, axis=1, keepdims=True) + 1e-8)
        background = 1.0 - tf.reduce_sum(weights, axis=1, keepdims=True)
        return tf.concat([weights, background], axis=1)

    present = alphas >= LEAST_ALPHA
    alphas = tf.where(present, alphas, 0.0)
    log_alphas = tf.math.log(tf.where(present, alphas, 1.0))  # no 1 / 0 in the gradient
    log_alphas = tf.where(present, log_alphas, _ABSENT)

    # A softmax of logarithms per pixel: subtracting one global maximum of 1 / gamma would underflow
    # where the nearest object is absent.
    logits = log_alphas + (1.0 - depths[:, :, None, None, None]) / gamma
    if ordering == "softras_or":
        coverage = _coverage(alphas)
        return tf.concat([slots.softmax_over_slots(logits) * coverage, 1.0 - coverage], axis=1)

    background = tf.fill(tf.shape(logits[:, :1]), BACKGROUND_NEARNESS / gamma)
    return slots.softmax_over_slots(tf.concat([logits, background], axis=1))


def composite(weights, colours):
    """Returns sum_k W_k x_k: [B, J + 1, H, W, 1], [B, J + 1, H, W, C] -> [B, H, W, C]."""
    return slots.compose(weights, colours)


def _transmittance(alphas, nearer):
    """T_j = prod_k (1 - alpha_k nearer_jk): [B, J, H, W, 1], [B, j, k] -> [B, j, H, W, 1]."""
    if alphas.shape[1] is None:
        return tf.reduce_prod(1.0 - alphas[:, None] * nearer[..., None, None, None], axis=2)

    # Factor by factor where J is known: it stores no J x J images, and the gradient needs no
    # division.
    through = 1.0
    for k in range(alphas.shape[1]):
        through *= 1.0 - alphas[:, k : k + 1] * nearer[:, :, k, None, None, None]
    return through


def _coverage(alphas):
    """O = 1 - prod_k (1 - alpha_k), [B, 1, H, W, 1]."""
    if alphas.shape[1] is None:
        return 1.0 - tf.reduce_prod(1.0 - alphas, axis=1, keepdims=True)

    through = 1.0
    for k in range(alphas.shape[1]):
        through *= 1.0 - alphas[:, k : k + 1]
    return 1.0 - through
