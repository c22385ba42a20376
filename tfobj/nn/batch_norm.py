"""Batch normalisation whose moving averages follow the global batch, assigned once per update.

Keras' layer assigns its averages while it is called: from the part of the batch that it happens
to see, in the order in which the parts come, and not at all inside a compiled function that may
only read weights. Here a call in training returns the moments that it used; they leave the model
with `SceneOutputs.statistics`, are averaged over micro-batches and replicas, and enter `update`.
E[x] and E[x**2] of equal parts average to those of the whole, which variances do not.

The moments that normalise are still those of the part that one device processes at a time, as with
PyTorch's default under data parallelism: two replicas or micro-batches give another run than one. A
model that must not depend on them takes another norm.
"""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfobj")
class BatchNorm(keras.layers.Layer):
    """Normalises every channel of [B, H, W, C] over batch and pixels, then applies gain and bias.

    Gain and bias are learned per channel, from 1 and 0. Moments and moving averages are float32
    under every policy. The moving variance is that of the batch, without Bessel's correction
    (PyTorch: with; a factor of 1 + 1e-4 for a batch of eight 32 x 32 maps).

    Args:
      momentum: of the moving averages, the share of the old value (PyTorch calls one minus this the
        momentum; Keras' default is 0.99).
      epsilon: added to the variance (Keras' default is 1e-3).
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape):
        shape = (input_shape[-1],)
        state = {
            "trainable": False,
            "autocast": False,
            "dtype": "float32",
            # Every replica computes the same value, from means over all of them.
            "aggregation": "only_first_replica",
        }

        self.gain = self.add_weight(name="gain", shape=shape, initializer="ones", autocast=False)
        self.bias = self.add_weight(name="bias", shape=shape, initializer="zeros", autocast=False)

        self.moving_mean = self.add_weight(
            name="moving_mean", shape=shape, initializer="zeros", **state
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=shape, initializer="ones", **state
        )
        self.built = True

    @property
    def key(self):
        """Name of this layer's statistics: the path of its moving mean, unique in a model."""
        return self.moving_mean.path

    def call(self, x, offset=0.0, training=False):
        """Normalises x + offset.

        Args:
          x: [B, H, W, C].
          offset: [C], the bias of the layer before. In training the batch's mean takes it away
            again, so that it moves the averages alone, and is neither added nor differentiated.
          training: whether the moments are those of the batch.

        Returns:
          (normalised x + offset, statistics). In training, the statistics are {key: [2, C]},
          E[x + offset] and E[(x + offset)**2] of the batch; otherwise {}.
        """
        offset = tf.cast(offset, tf.float32)
        if not training:
            scale = self.gain * tf.math.rsqrt(self.moving_variance + self.epsilon)
            shift = self.bias + (offset - self.moving_mean) * scale
            return tf.cast(tf.cast(x, tf.float32) * scale + shift, x.dtype), {}

        # One fused kernel; empty averages, because only those of the batch count here.
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=tf.convert_to_tensor(self.gain),
            offset=tf.convert_to_tensor(self.bias),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )

        # The op returns the variance with Bessel's correction.
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32)
        variance *= (count - 1.0) / count
        mean += offset
        return y, {self.key: tf.stop_gradient(tf.stack([mean, variance + tf.square(mean)]))}

    def update(self, statistics):
        """Moves the averages towards this layer's entry of `statistics`, if it is finite."""
        mean, second_moment = tf.unstack(statistics[self.key])
        variance = tf.maximum(second_moment - tf.square(mean), 0.0)
        finite = tf.math.is_finite(mean) & tf.math.is_finite(variance)

        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            old = tf.convert_to_tensor(average.value)
            new = self.momentum * old + (1.0 - self.momentum) * value
            average.assign(tf.where(finite, new, old))
