"""Inputs of the refinement network: normalisation, stopped gradients.

Twelve inputs (Greff 2019, Table 2 and appendix C), each with a switch for the paper's ablations
(Figs. 33-40) in `refinement_settings`. Image-shaped inputs are stacked along channels; the
posterior and its gradient are flat.

Some inputs are the same for all slots of an image. They are kept apart as `shared`
[B, 1, H, W, channels], so that the first convolution of the refinement network sees them once per
image instead of K times.
"""

import math

import keras
import tensorflow as tf

from tfobj.inference.refinement_settings import FLAT, PER_SLOT, SHARED, SPATIAL
from tfobj.nn import coordinates
from tfobj.nn.slots import batch_and_slots, batch_size, fold_slots, softmax_over_slots, unfold_slots


class RefinementInputs(keras.layers.Layer):
    """Assembles the refinement network's inputs from the state of inference.

    Layer norm is that of the released code: moments over rows, columns and channels of one slot
    of one image jointly, one trained gain and bias per channel, epsilon 1e-5. In Keras that is
    `GroupNormalization(groups=1)`; `LayerNormalization` over three axes would train a gain per
    pixel. Gradients are stopped first, so gain and bias still train.

    Args:
      config: `RefinementInputsConfig`.
      image_shape: (H, W, C).
      latent_size: D.
    """

    def __init__(self, config, image_shape, latent_size, **kwargs):
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.config = config
        self.image_shape = tuple(image_shape)
        self.latent_size = latent_size

        widths = self._widths()
        settings = {"epsilon": 1e-5, "dtype": "float32"}
        self.norms = {}
        for name in config.layer_norm:
            if name in config.enabled(SPATIAL):
                norm = keras.layers.GroupNormalization(groups=1, name=f"norm_{name}", **settings)
                norm.build((None, *self.image_shape[:2], widths.get(name, 1)))
                self.norms[name] = norm
            elif name in config.enabled(FLAT):
                norm = keras.layers.LayerNormalization(name=f"norm_{name}", **settings)
                norm.build((None, 2 * latent_size))
                self.norms[name] = norm

    def build(self, input_shape=None):
        if self.config.coordinates:
            grids = {"linear": coordinates.linear_grid, "cosine": coordinates.cosine_grid}
            make_grid = grids[self.config.coordinate_type]
            self.grid = coordinates.grid_weight(self, make_grid(*self.image_shape[:2]))
        self.built = True

    def num_channels(self):
        """Returns the sizes of the stacks: (shared channels, channels per slot, flat inputs)."""
        widths = self._widths()

        def count(names):
            return sum(widths.get(name, 1) for name in self.config.enabled(names))

        constant = int(self.config.legacy_constants)
        num_flat = 2 * self.latent_size * len(self.config.enabled(FLAT))
        return count(SHARED) + constant, count(PER_SLOT), num_flat + constant

    def _widths(self):
        """Returns name -> channels of the image-shaped inputs that have more than one."""
        channels = self.image_shape[-1]
        return {
            "image": channels,
            "means": channels,
            "means_gradient": channels,
            "coordinates": {"linear": 2, "cosine": 8}[self.config.coordinate_type],
        }

    def spatial(self, image, mixture, terms):
        """Returns the image-shaped inputs.

        Args:
          image: [B, H, W, C].
          mixture: `SpatialMixture` of the current decode.
          terms: its `PixelTerms` for `image`.

        Returns:
          (shared [B, 1, H, W, channels], per slot [B, K, H, W, channels]); None for an empty stack.
        """
        # Functions, because a value that is switched off must cost nothing.
        makers = {
            "image": lambda: image[:, None],
            "means": lambda: mixture.means,
            "mask": lambda: mixture.masks,
            "mask_logits": lambda: mixture.mask_logits,
            "mask_posterior": lambda: self._mask_posterior(terms.component_log_prob),
            "means_gradient": lambda: self._scaled(terms.means_gradient),
            "mask_gradient": lambda: self._scaled(self._mask_gradient(terms)),
            "pixel_likelihood": lambda: self._likelihood(terms.log_prob),
            "leave_one_out": lambda: self._leave_one_out(mixture, terms),
            "coordinates": lambda: self.grid.value[None, None],
        }

        def stack(names):
            return [self._finish(name, makers[name]()) for name in self.config.enabled(names)]

        shared = stack(SHARED)
        per_slot = stack(PER_SLOT)
        if self.config.legacy_constants:
            shared.append(tf.fill([1, 1, 1, 1, 1], 0.5))

        # Coordinates and the constant have no batch axis of their own.
        lead = [batch_size(image), 1, *self.image_shape[:2]]
        shared = [tf.broadcast_to(x, [*lead, x.shape[-1]]) for x in shared]
        return _concatenated(shared), _concatenated(per_slot)

    def flat(self, posterior, posterior_gradient):
        """Returns the flat inputs, [B, K, size].

        Args:
          posterior: [B, K, 2 D], lambda.
          posterior_gradient: [B, K, 2 D], gradient of a scene's negative ELBO with respect to
            lambda.
        """
        values = {
            "posterior": posterior,
            "posterior_gradient": self._scaled(posterior_gradient),
        }
        flat = [self._finish(name, values[name]) for name in self.config.enabled(FLAT)]
        if self.config.legacy_constants:
            flat.append(tf.fill([*batch_and_slots(posterior), 1], 0.5))
        return tf.concat(flat, axis=-1)

    def _scaled(self, gradient):
        return gradient * self.config.gradient_scale

    def _mask_posterior(self, log_prob):
        epsilon = self.config.mask_posterior_epsilon
        if not epsilon:
            return softmax_over_slots(log_prob)

        # As one more slot of density epsilon: neither densities nor their sum can overflow.
        rest = tf.zeros_like(log_prob[:, :1]) + math.log(epsilon)
        return softmax_over_slots(tf.concat([log_prob, rest], axis=1))[:, :-1]

    def _mask_gradient(self, terms):
        if self.config.mask_gradient_of == "logits":
            return terms.logits_gradient
        # - r_k / m_k, without the division.
        return -tf.exp(terms.component_log_prob - terms.log_prob)

    def _likelihood(self, log_prob):
        return log_prob if self.config.likelihoods == "log" else tf.exp(log_prob)

    def _leave_one_out(self, mixture, terms):
        without = mixture.leave_one_out_log_prob(terms.component_log_prob)
        if self.config.likelihoods == "log":
            return terms.log_prob - without
        return tf.exp(without)

    def _finish(self, name, value):
        """Stops the gradient of an input [B, K or 1, ...] and normalises it, as configured."""
        if name in self.config.stop_gradient:
            value = tf.stop_gradient(value)
        if name not in self.norms:
            return value

        # Folded, because the statistics are those of each slot of each image.
        batch, num_slots = batch_and_slots(value)
        return unfold_slots(self.norms[name](fold_slots(value)), batch, num_slots)


def _concatenated(stack):
    """Returns the tensors joined along channels, or None for an empty list."""
    return tf.concat(stack, axis=-1) if stack else None
