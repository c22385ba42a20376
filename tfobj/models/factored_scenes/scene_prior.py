"""The scene level (Anciukevicius et al. 2020, Eqs. 1, 4 and 5): a code y that relates objects.

    y = (y_theta, y_a) ~ N(0, I)
    theta_j | y        ~ Categorical(softmax zeta(y_theta)_j)   one map per object: given y,
                                                                objects avoid each other
    (z_j, d~_j) | y    ~ N(xi(y_a, positions))                  appearance, depth before the sigmoid

zeta and xi read disjoint halves of y, so positions can change with appearances fixed, and
conversely. The scene level is trained last, on the modes of the frozen object level:

    loss = mean over scenes of - sum_j [ log N(z_j, d~_j; xi) + log softmax(zeta)_j[theta_j] ]
           + 0.01 KL(Q(y | z, d~, theta) || N(0, I))

The paper's Table 5 has no row for zeta. It is ours, and so are the coordinates in [-1, 1] by which
positions enter dense layers.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions.gaussian import log_variance_gaussian
from tfobj.distributions.relaxed import gumbel
from tfobj.nn.convolution import ConvStack, crop
from tfobj.nn.layers import Conv2D, Dense
from tfobj.nn.residual import Chain, ResidualDense

tfd = tfp.distributions


class SceneTerms(NamedTuple):
    """Scores of the objects of scenes under the scene level; float32 [B], nats."""

    positions_nll: Any
    """- sum_j log softmax(zeta)_j[theta_j]; J log(H W) under a uniform prior."""
    appearance_nll: Any
    """- sum_j log N(z_j, d~_j; xi)."""
    kl: Any
    """KL(Q(y | z, d~, theta) || N(0, I))."""


def _residual_mlp(units, outputs, name):
    """Returns the `Chain` dense(units) ELU - residual - residual - dense(outputs) to float32.

    The last layer is linear.
    """
    return Chain(
        [
            Dense(units, activation="elu", name="dense_0"),
            ResidualDense(name="residual_1"),
            ResidualDense(name="residual_2"),
            Dense(outputs, name="dense_3"),
        ],
        name=name,
    )


@keras.saving.register_keras_serializable("tfobj")
class _PositionMaps(keras.layers.Layer):
    """zeta: [B, n] -> float32 logits [B, J, H, W].

    Dense - dense to a map of a sixteenth of the sides - four enlarging convolutions - 1 x 1,
    cropped.
    """

    STRIDE = 16

    def __init__(self, image_size, num_objects, units, filters, **kwargs):
        super().__init__(**kwargs)
        self.image_size = tuple(image_size)
        self.filters = filters
        self.grid = [-(-side // self.STRIDE) for side in image_size]

        common = {"activation": "elu", "dtype": self.dtype_policy}
        self.hidden = Dense(units, name="hidden", **common)
        self.map = Dense(self.grid[0] * self.grid[1] * filters[0], name="map", **common)
        self.cnn = ConvStack(filters, 3, 2, transposed=True, name="cnn", **common)
        self.head = Conv2D(num_objects, 1, dtype=self.dtype_policy, name="head")

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.map.build((None, self.hidden.units))
        shape = (None, *self.grid, self.filters[0])
        self.cnn.build(shape)
        self.head.build(self.cnn.compute_output_shape(shape))
        self.built = True

    def call(self, x):
        x = self.map(self.hidden(tf.cast(x, self.compute_dtype)))
        x = tf.reshape(x, [-1, *self.grid, self.filters[0]])
        x = tf.cast(crop(self.head(self.cnn(x)), self.image_size), tf.float32)
        return tf.transpose(x, [0, 3, 1, 2])


@keras.saving.register_keras_serializable("tfobj")
class ScenePrior(keras.layers.Layer):
    """Scene code, position maps zeta and appearances xi; see the module's docstring.

    Args:
      image_size: (H, W).
      num_objects: J.
      num_latents: L = D + 1, appearance and depth of an object.
      code_size: size of y; even, each half has one use.
      units: units of the dense layers, 128 in the paper.
      filters: channels of the enlarging convolutions of zeta.
      target_blur: standard deviation in pixels of the blur of target positions; 0 gives the
        likelihood.
    """

    def __init__(
        self,
        image_size,
        num_objects,
        num_latents,
        code_size,
        units,
        filters,
        target_blur=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_objects = num_objects
        self.num_latents = num_latents
        self.code_size = code_size
        self.target_blur = target_blur

        self.encoder = _residual_mlp(units, 2 * code_size, name="encoder")
        self.position_maps = _PositionMaps(
            image_size, num_objects, units, filters, dtype=self.dtype_policy, name="zeta"
        )
        self.latents = _residual_mlp(units, 2 * num_objects * num_latents, name="xi")

    def build(self, input_shape=None):
        self.encoder.build((None, self.num_objects * (self.num_latents + 2)))
        self.position_maps.build((None, self.code_size // 2))
        self.latents.build((None, self.code_size - self.code_size // 2 + 2 * self.num_objects))
        self.built = True

    def posterior(self, latents, positions):
        """Returns Q(y | z, d~, theta), a `tfd.Normal` [B, code_size].

        Args:
          latents: [B, J, L].
          positions: [B, J, 2] in [-1, 1].
        """
        objects = tf.concat([latents, positions], axis=-1)
        flat = tf.reshape(objects, [-1, self.num_objects * (self.num_latents + 2)])
        return log_variance_gaussian(self.encoder(flat))

    def maps(self, code):
        """Returns the logits zeta(y_theta) [B, J, H, W] of a code y [B, code_size]."""
        return self.position_maps(code[:, : self.code_size // 2])

    def appearance(self, code, positions):
        """Returns xi(y_a, positions), a `tfd.Normal` [B, J, L].

        Args:
          code: y [B, code_size].
          positions: [B, J, 2] in [-1, 1].
        """
        flat = tf.reshape(positions, [-1, 2 * self.num_objects])
        parameters = self.latents(tf.concat([code[:, self.code_size // 2 :], flat], axis=-1))
        parameters = tf.reshape(parameters, [-1, self.num_objects, 2 * self.num_latents])
        return log_variance_gaussian(parameters)

    def terms(self, latents, positions, index, noise):
        """Scores the modes of a scene's objects.

        Args:
          latents: [B, J, L].
          positions: [B, J, 2] in [-1, 1].
          index: int32 [B, J], number of the pixel of each position.
          noise: standard normal [B, code_size].

        Returns:
          `SceneTerms`.
        """
        posterior = self.posterior(latents, positions)
        code = posterior.loc + posterior.scale * noise

        # Cross-entropy of the positions, by pixel.
        logits = self.maps(code)
        height, width = logits.shape[-2:]
        flat = [-1, self.num_objects, height * width]
        log_probs = tf.nn.log_softmax(tf.reshape(logits, flat))
        targets = tf.one_hot(index, height * width)
        if self.target_blur:
            maps = tf.reshape(targets, [-1, self.num_objects, height, width])
            targets = tf.reshape(self._blurred(maps), flat)
        positions_nll = -tf.reduce_sum(targets * log_probs, axis=[1, 2])

        log_prob = self.appearance(code, positions).log_prob(latents)
        kl = tfd.kl_divergence(posterior, tfd.Normal(0.0, 1.0))
        return SceneTerms(
            positions_nll=positions_nll,
            appearance_nll=-tf.reduce_sum(log_prob, axis=[1, 2]),
            kl=tf.reduce_sum(kl, axis=1),
        )

    def _blurred(self, maps):
        """Blurs maps [B, J, H, W] by `target_blur` pixels."""
        height, width = maps.shape[-2:]
        rows = blur_matrix(height, self.target_blur)
        columns = blur_matrix(width, self.target_blur)
        return tf.einsum("hp,bjpq,wq->bjhw", rows, maps, columns)

    def sample_positions(self, code, seed):
        """Samples one pixel per object from zeta, int32 [B, J].

        It is the largest of logits plus Gumbel noise.

        Args:
          code: y [B, code_size].
          seed: int32 [3] of `random.make_seed`.
        """
        logits = self.maps(code)
        num_objects, height, width = logits.shape[1:]
        shape = [tf.shape(code)[0], num_objects, height, width]
        uniform = random.uniform(seed, "factored_scenes/prior_positions", shape)
        scores = tf.reshape(logits + gumbel(uniform), [-1, num_objects, height * width])
        return tf.argmax(scores, axis=-1, output_type=tf.int32)


def blur_matrix(size, deviation):
    """Returns the Gaussian blur of one axis as float32 [size, size].

    Columns sum to one, so no mass is lost at the borders.
    """
    distance = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-0.5 * (distance / deviation) ** 2)
    return (weights / weights.sum(axis=0)).astype(np.float32)
