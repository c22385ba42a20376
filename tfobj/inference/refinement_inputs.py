"""What the refinement network sees (Greff 2019, Table 2 and appendix C): names, normalisation, stopped gradients.

Twelve inputs, every one with a switch for the paper's ablations (Figs. 33-40). Image-shaped inputs are
stacked along channels, the posterior and its gradient are flat.

Some inputs are the same for all slots of an image. They are kept apart as `shared` [B, 1, H, W, channels], so that the
first convolution of the refinement network sees them once per image and not K times.
"""

import dataclasses
from typing import Literal

import keras
import tensorflow as tf

from tfobj.config import Config
from tfobj.errors import unknown_name
from tfobj.nn import coordinates

SHARED = ("image", "pixel_likelihood", "coordinates")
PER_SLOT = (
    "means",
    "mask",
    "mask_logits",
    "mask_posterior",
    "means_gradient",
    "mask_gradient",
    "leave_one_out",
)
SPATIAL = SHARED + PER_SLOT
FLAT = ("posterior", "posterior_gradient")
NORMALISED = (
    "means_gradient",
    "mask_gradient",
    "pixel_likelihood",
    "leave_one_out",
    "posterior_gradient",
)
"""Inputs that get layer norm and stopped gradients by default (paper and released code agree)."""
DECODED = (*PER_SLOT, "pixel_likelihood", "posterior_gradient")
"""Inputs that depend on the decoder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefinementInputsConfig(Config):
    """One switch per input, and how inputs are made. Defaults: the paper, with the readings of the released code.

    Where they differ: the mask gradient is taken with respect to the logits (bounded by 1, no division by
    the mask) and likelihoods enter as logarithms; `mask_gradient_of` and `likelihoods` select the paper's
    literal text.
    """

    prefix = "model.inputs."

    image: bool = True
    means: bool = True
    mask: bool = True
    mask_logits: bool = True
    mask_posterior: bool = True
    means_gradient: bool = True
    mask_gradient: bool = True
    pixel_likelihood: bool = True
    leave_one_out: bool = True
    coordinates: bool = True
    posterior: bool = True
    posterior_gradient: bool = True
    layer_norm: tuple[str, ...] = NORMALISED
    """Names of the inputs that are layer-normalised."""
    stop_gradient: tuple[str, ...] = NORMALISED
    """Names of the inputs that no gradient flows back through."""
    coordinate_type: Literal["linear", "cosine"] = "linear"
    mask_gradient_of: Literal["logits", "masks"] = "logits"
    likelihoods: Literal["log", "probability"] = "log"
    legacy_constants: bool = False
    """Adds the constant 0.5 channel (image-shaped and flat) of the released code."""
    gradient_scale: float = 1.0
    """Multiplies the gradients of the per-scene loss; the released code has 1 / (batch of one GPU)."""

    def __post_init__(self):
        super().__post_init__()
        for field in ("layer_norm", "stop_gradient"):
            for name in getattr(self, field):
                if name not in SPATIAL + FLAT:
                    raise unknown_name(f"refinement input in `{field}`:", name, SPATIAL + FLAT)

    def enabled(self, names):
        """Returns those of `names` that are switched on, in the table's order."""
        return [name for name in names if getattr(self, name)]

    def decoder_is_stopped(self):
        """Whether no gradient reaches the decoder through the inputs; then it reaches it through the likelihood alone."""
        return set(self.enabled(DECODED)) <= set(self.stop_gradient)


class RefinementInputs(keras.layers.Layer):
    """Assembles the refinement network's inputs from the state of inference.

    Layer norm is that of the released code: moments over rows, columns and channels of one slot of one image
    jointly, one trained gain and bias per channel (Keras: `GroupNormalization(groups=1)`; Keras'
    `LayerNormalization` over three axes would train a gain per pixel), epsilon 1e-5. Gradients are stopped
    first, so gain and bias still train.

    Args:
      config: `RefinementInputsConfig`.
      image_shape: (H, W, C).
      latent_size: D.
    """

    def __init__(self, config, image_shape, latent_size, **kwargs):
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.config, self.image_shape, self.latent_size = config, tuple(image_shape), latent_size
        widths = self._widths()
        self.norms = {}
        for name in config.layer_norm:
            if name in config.enabled(SPATIAL):
                norm = keras.layers.GroupNormalization(
                    groups=1, epsilon=1e-5, dtype="float32", name=f"norm_{name}"
                )
                norm.build((None, *self.image_shape[:2], widths.get(name, 1)))
            elif name in config.enabled(FLAT):
                norm = keras.layers.LayerNormalization(
                    epsilon=1e-5, dtype="float32", name=f"norm_{name}"
                )
                norm.build((None, 2 * latent_size))
            else:
                continue
            self.norms[name] = norm

    def build(self, input_shape=None):
        if self.config.coordinates:
            make = (
                coordinates.linear_grid
                if self.config.coordinate_type == "linear"
                else coordinates.cosine_grid
            )
            self.grid = coordinates.grid_weight(self, make(*self.image_shape[:2]))
        self.built = True

    def num_channels(self):
        """Returns channels of (the shared image-shaped stack, that of each slot) and the size of the flat stack."""
        widths = self._widths()
        count = lambda names: sum(widths.get(name, 1) for name in self.config.enabled(names))
        constant = int(self.config.legacy_constants)
        return (
            count(SHARED) + constant,
            count(PER_SLOT),
            2 * self.latent_size * len(self.config.enabled(FLAT)) + constant,
        )

    def _widths(self):
        """Returns name -> channels of the image-shaped inputs that have more than one."""
        channels = self.image_shape[-1]
        grid = {"linear": 2, "cosine": 8}[self.config.coordinate_type]
        return {
            "image": channels,
            "means": channels,
            "means_gradient": channels,
            "coordinates": grid,
        }

    def spatial(self, image, mixture, terms):
        """Returns image-shaped inputs: (shared [B, 1, H, W, channels], per slot [B, K, H, W, channels]), None where there are none.

        Args:
          image: [B, H, W, C].
          mixture: `SpatialMixture` of the current decode.
          terms: its `PixelTerms` for `image`.
        """
        makers = {
            "image": lambda: image[:, None],
            "means": lambda: mixture.means,
            "mask": lambda: mixture.masks,
            "mask_logits": lambda: mixture.mask_logits,
            "mask_posterior": lambda: tf.nn.softmax(terms.component_log_prob, axis=1),
            "means_gradient": lambda: terms.means_gradient * self.config.gradient_scale,
            "mask_gradient": lambda: (
                self._mask_gradient(mixture, terms) * self.config.gradient_scale
            ),
            "pixel_likelihood": lambda: self._likelihood(terms.log_prob),
            "leave_one_out": lambda: self._leave_one_out(mixture, terms),
            "coordinates": lambda: self.grid.value[None, None],
        }
        stacks = [
            [self._finish(name, makers[name]()) for name in self.config.enabled(names)]
            for names in (SHARED, PER_SLOT)
        ]
        if self.config.legacy_constants:
            stacks[0].append(tf.fill([1, 1, 1, 1, 1], 0.5))
        lead = tf.shape(image)[0], *self.image_shape[:2]
        shared = [tf.broadcast_to(x, [lead[0], 1, *lead[1:], x.shape[-1]]) for x in stacks[0]]
        return tuple(tf.concat(stack, axis=-1) if stack else None for stack in (shared, stacks[1]))

    def flat(self, posterior, posterior_gradient):
        """Returns the flat inputs, [B, K, size].

        Args:
          posterior: [B, K, 2 D], lambda.
          posterior_gradient: [B, K, 2 D], gradient of the negative ELBO of a scene with respect to lambda.
        """
        values = {
            "posterior": posterior,
            "posterior_gradient": posterior_gradient * self.config.gradient_scale,
        }
        flat = [self._finish(name, values[name]) for name in self.config.enabled(FLAT)]
        if self.config.legacy_constants:
            flat.append(tf.fill([*tf.unstack(tf.shape(posterior)[:2]), 1], 0.5))
        return tf.concat(flat, axis=-1)

    def _mask_gradient(self, mixture, terms):
        if self.config.mask_gradient_of == "logits":
            return terms.logits_gradient
        return -tf.exp(
            terms.component_log_prob - terms.log_prob
        )  # - r_k / m_k, without the division

    def _likelihood(self, log_prob):
        return log_prob if self.config.likelihoods == "log" else tf.exp(log_prob)

    def _leave_one_out(self, mixture, terms):
        without = mixture.leave_one_out_log_prob(terms.component_log_prob)
        return terms.log_prob - without if self.config.likelihoods == "log" else tf.exp(without)

    def _finish(self, name, value):
        if name in self.config.stop_gradient:
            value = tf.stop_gradient(value)
        if name not in self.norms:
            return value
        shape = tf.shape(value)
        folded = self.norms[name](
            tf.reshape(value, [-1, *value.shape[2:]])
        )  # statistics of each slot of each image
        return tf.ensure_shape(tf.reshape(folded, shape), value.shape)
