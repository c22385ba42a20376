"""The term in place of the KL of theta (Anciukevicius et al. 2020, section 4, training objective).

    || q - uniform ||_1,    q(p) = E over scenes and objects of q(theta = p | x)

Positions shall be uniform together while each may be sharp, so that an object moves by its position
and not within its canvas.
"""

import math

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("tfobj")
class PositionPenalty(keras.layers.Layer):
    """L1 distance of the aggregated posterior of positions from the uniform distribution.

    Args:
      image_size: (H, W).
      cell: side of the squares of pixels in which positions are counted; the last ones may be
        narrower.
      moving: whether to compare a moving average over batches instead of the current batch.
    """

    DECAY = 0.99

    def __init__(self, image_size, cell, moving, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.cell = cell
        self.moving = moving

        # The share of the image that each cell covers.
        heights, widths = (
            np.minimum(cell, side - cell * np.arange(-(-side // cell))) for side in image_size
        )
        area = heights[:, None] * widths
        self.uniform = (area / math.prod(image_size)).astype(np.float32)

    def build(self, input_shape=None):
        self.average = None

        # Equal on all replicas: each of them computes it from the mean over all.
        if self.moving:
            self.average = self.add_weight(
                name="average",
                shape=self.uniform.shape,
                initializer=keras.initializers.Constant(1.0 / self.uniform.size),
                trainable=False,
                autocast=False,
                dtype="float32",
                aggregation="only_first_replica",
            )
        self.built = True

    def probabilities(self, logits):
        """Returns q(theta | x) by cell, the mean over the objects of a scene.

        Args:
          logits: [B, J, H, W].

        Returns:
          [B, h, w], sums to one.
        """
        _, num_objects, height, width = logits.shape
        flat = tf.reshape(logits, [-1, num_objects, height * width])
        mean = tf.reduce_mean(tf.nn.softmax(flat), axis=1)
        mean = tf.reshape(mean, [-1, height, width])
        if self.cell == 1:
            return mean

        # Zeros complete the last cells.
        rows, columns = self.uniform.shape
        missing = [[0, 0], [0, rows * self.cell - height], [0, columns * self.cell - width]]
        cells = tf.reshape(tf.pad(mean, missing), [-1, rows, self.cell, columns, self.cell])
        return tf.reduce_sum(cells, axis=[2, 4])

    def distance(self, probabilities):
        """Returns distances [B] in [0, 2] whose mean has the penalty's value and gradient.

        Of the batch: the norm itself, where the batch is the part that one device processes at a
        time. It is at least 2 (1 - B J / cells) for sharp posteriors, wherever they are.

        Moving: the value is that of the average. The gradient is that of
        sum_p sign(average - uniform)_p q_p, which equals the norm's as far as the average is right.
        It is additive over scenes, so replicas and micro-batches change nothing.

        Args:
          probabilities: [B, h, w] of `probabilities`.
        """
        if self.average is None:
            mean = tf.reduce_mean(probabilities, axis=0)
            norm = tf.reduce_sum(tf.abs(mean - self.uniform))
            return tf.fill(tf.shape(probabilities)[:1], norm)

        average = tf.convert_to_tensor(self.average.value)
        slope = tf.reduce_sum(tf.sign(average - self.uniform) * probabilities, axis=[1, 2])
        norm = tf.reduce_sum(tf.abs(average - self.uniform))
        return tf.stop_gradient(norm - slope) + slope

    def update(self, probabilities):
        """Moves the average towards the mean over a batch [h, w]; ignores non-finite means."""
        if self.average is None:
            return
        old = tf.convert_to_tensor(self.average.value)
        moved = self.DECAY * old + (1.0 - self.DECAY) * probabilities
        is_finite = tf.reduce_all(tf.math.is_finite(probabilities))
        self.average.assign(tf.where(is_finite, moved, old))
