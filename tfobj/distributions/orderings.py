"""Names and limits of the depth orders of `compositing`, for settings: no TensorFlow."""

from typing import Literal

Ordering = Literal["soft_over", "softras", "softras_or"]

LEAST_SOFTRAS_TEMPERATURE = 0.015
"""Least gamma of the softras orders. Depth decides nearly alone there: it moves the logarithm of a
weight by up to 1 / gamma = 67, coverage by no more than log(1 / compositing.LEAST_ALPHA) = 14."""
