"""|| aggregated posterior of positions - uniform ||_1 (Anciukevicius et al. 2020, section 3.3): the term in place of the KL of theta.

    q(p) = E over scenes and objects of q(theta = p | x)

Positions shall be uniform together while each is sharp, so that the place of an object is not told by its canvas.
"""

import math

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("tfobj")
class PositionPenalty(keras.layers.Layer):
    """The distance, and its state.

    Args:
      image_size: (H, W).
      cell: side of the squares of pixels that positions are counted in; the last ones may be narrower.
      moving: compare a moving average over batches instead of the batch at hand.
    """

    DECAY = 0.99

    def __init__(self, image_size, cell, moving, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.cell, self.moving = cell, moving
        lengths = [
            np.minimum(cell, side - cell * np.arange(-(-side // cell))) for side in image_size
        ]
        self.uniform = (lengths[0][:, None] * lengths[1] / math.prod(image_size)).astype(np.float32)

    def build(self, input_shape=None):
        self.average = None
        if self.moving:
            # The same on all replicas: every one of them computes it from the mean over all.
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
        """Returns q(theta | x), mean over the objects of a scene, by cell: logits [B, J, H, W] -> [B, h, w]."""
        _, num_objects, height, width = logits.shape
        mean = tf.reduce_mean(
            tf.nn.softmax(tf.reshape(logits, [-1, num_objects, height * width])), axis=1
        )
        mean = tf.reshape(mean, [-1, height, width])
        if self.cell == 1:
            return mean
        rows, columns = self.uniform.shape
        mean = tf.pad(
            mean, [[0, 0], [0, rows * self.cell - height], [0, columns * self.cell - width]]
        )
        return tf.reduce_sum(
            tf.reshape(mean, [-1, rows, self.cell, columns, self.cell]), axis=[2, 4]
        )

    def distance(self, probabilities):
        """Returns the distance in [0, 2] as [B], whose mean over scenes has the value and the gradient of the penalty.

        Of the batch: the norm itself, that of the part of the batch that one device works on at a time. At least 2 (1 - B J / cells) for
        sharp posteriors, wherever they are. Moving: the value of the average, and the gradient of sum_p sign(average - uniform)_p q_p, which is
        that of the norm as far as the average is right; additive over scenes, so replicas and micro-batches change nothing.
        """
        if self.average is None:
            return tf.fill(
                tf.shape(probabilities)[:1],
                tf.reduce_sum(tf.abs(tf.reduce_mean(probabilities, axis=0) - self.uniform)),
            )
        average = tf.convert_to_tensor(self.average.value)
        slope = tf.reduce_sum(tf.sign(average - self.uniform) * probabilities, axis=[1, 2])
        return tf.stop_gradient(tf.reduce_sum(tf.abs(average - self.uniform)) - slope) + slope

    def update(self, probabilities):
        """Moves the average towards the mean over a batch [h, w]; what is not finite changes nothing."""
        if self.average is not None:
            old = tf.convert_to_tensor(self.average.value)
            moved = self.DECAY * old + (1.0 - self.DECAY) * probabilities
            self.average.assign(
                tf.where(tf.reduce_all(tf.math.is_finite(probabilities)), moved, old)
            )
