"""What a target for the negative log likelihood (NLL) of a normal means: a mean squared error.

Targets of GECO are bounds on that NLL; see `geco`. Needs no TensorFlow, as settings check them.
"""

import math

HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)

EASY_ERROR = 0.05
"""Mean squared error from which on a target is too easy: images of a single colour may meet it."""


def gaussian_floor(scale, with_constant=True):
    """Returns the least NLL of one value under a normal, in nats: that of a perfect mean.

    A mixture of normals of this scale has the same floor.

    Args:
      scale: standard deviation.
      with_constant: whether the likelihood counts 1/2 ln 2 pi (GENESIS does, EfficientMORL does
        not).
    """
    floor = math.log(scale)
    if with_constant:
        floor += HALF_LOG_2_PI
    return floor


def mean_squared_error_at(target, scale, with_constant=True):
    """Returns the mean squared error at which the NLL of one value equals `target`.

    Negative for targets below the floor. Arguments as for `gaussian_floor`; `target` in nats.
    """
    return 2.0 * scale**2 * (target - gaussian_floor(scale, with_constant))
