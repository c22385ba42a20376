"""The learning rate as a function of the step.

It is plain arithmetic, so that the same lines serve TensorFlow and hosts without it.
"""

import math
from typing import NamedTuple


class WarmupDecaySchedule(NamedTuple):
    """Linear warm-up, exponential decay, linear or cosine cool-down.

    rate * min(1, step / warmup_steps)
         * decay_rate ** (max(0, step - decay_start) / decay_steps)
         * fall(clip((total_steps - step) / cooldown_steps, 0, 1))

    fall(x) is x, or (1 - cos(pi x)) / 2 if `cooldown` is "cosine". The first and the last factor
    are left out where their steps are 0.
    """

    rate: float
    warmup_steps: int = 0
    decay_rate: float = 1.0
    decay_steps: int = 1
    cooldown_steps: int = 0
    total_steps: int = 0
    decay_start: int = 0
    cooldown: str = "linear"

    def at(self, step, minimum=min, maximum=max, cosine=math.cos):
        """Returns the rate of the update that follows `step` finished ones.

        Args:
          step: a number, or a float tensor with its engine's `minimum` and `maximum`.
          minimum, maximum: functions of two numbers or tensors.
          cosine: function of one.
        """
        decayed = maximum(step - self.decay_start, 0.0) if self.decay_start else step
        rate = self.rate * self.decay_rate ** (decayed / self.decay_steps)
        if self.warmup_steps:
            rate = rate * minimum(1.0, step / self.warmup_steps)
        if self.cooldown_steps:
            left = (self.total_steps - step) / self.cooldown_steps
            left = maximum(minimum(left, 1.0), 0.0)
            if self.cooldown == "cosine":
                left = 0.5 * (1.0 - cosine(math.pi * left))
            rate = rate * left
        return rate


def schedule_of(config):
    """Returns the `WarmupDecaySchedule` of a `TrainConfig`."""
    return WarmupDecaySchedule(
        config.learning_rate,
        config.warmup_steps,
        config.decay_rate,
        config.decay_steps,
        min(config.cooldown_steps, config.steps),
        config.steps,
        config.decay_start,
        config.cooldown,
    )
