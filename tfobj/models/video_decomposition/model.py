"""Video decomposition by spatio-temporal iterative inference (Zablotskaia et al. 2020).

    p(z_t | history) = N(mu~, sigma~^2)                  [mu~, sigma~] = xi(h_T)          Eq. 5
    p(x_t | z_t, history) = prod_pixels prod_channels sum_k m_k exp(-(x - mu_k)^2 / 2 v)  Eq. 1
                                                         mu, logits = g(z_t, h_T)         Eq. 6
    q(z_t) = N(mu, exp(l))                               lambda = [mu, l]

h_T is the hidden state that the previous frame left in the slot's memory, m the softmax over
slots of the mask logits.

Inference visits a grid of cells, frame t by refinement r (Fig. 2). A cell samples z ~ q, decodes
it, scores the frame, and refines lambda by a network that reads the frame, the decode, and the
gradients of the cell's loss:

    L = beta NLL + psi KL(q || p) + gamma H(m)           Eq. 7
    lambda <- lambda + refine(., h_T, h_R)               Eq. 4

The network's 2-D LSTM has two memories: h_R from the previous cell of the frame, h_T from the
previous frame. The more history there is, the fewer cells a frame takes: frame t = 0, 1, ... has
max(R - t, 2) decodes, which makes R^2 + T cells instead of R T. Every frame begins with the same
learned lambda_0 and with the same first sample z_0 of it, which keeps a slot on its object.
Training minimises the sum over all cells of w L with w = (r + 1) / R, through all refinements and
frames.

Frames after the last one are predicted by decoding z_0 with the history; the prediction replaces
the frame, and all gradients are zero.

The loss of a cell belongs to one scene. The released code takes the mean over the batch first, so
its refinement inputs depend on the batch size. The published results used 16 more refinement
inputs, features of a network trained on ImageNet with labels, which are left out here.

Axes: B batch, T frames (index t), R refinement steps (index r), K slots, H W C image, D latent.
"""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions.gaussian import LOG_VARIANCE_BOUND, log_variance_gaussian
from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.inference.score import decode_and_score
from tfobj.models.base import DecodedScene
from tfobj.models.video import VideoModel
from tfobj.models.video_decomposition.config import VideoDecompositionConfig
from tfobj.models.video_decomposition.networks import (
    ConditionalPrior,
    GridRefinement,
    SlotDecoder,
    standardised,
)
from tfobj.nn import static
from tfobj.nn.slots import (
    batch_and_slots,
    compose,
    fold_slots,
    join_decoded,
    softmax_over_slots,
    split_decoded,
    unfold_slots,
)

tfd = tfp.distributions

HIGH_NLL = 600.0
HIGH_WEIGHT = 300.0
MIDDLE_NLL = 200.0
MIDDLE_WEIGHT = 100.0


class DecodedSlots(NamedTuple):
    """The decode of a frame."""

    means: Any
    """[B, K, H, W, C]."""
    masks: Any
    """[B, K, H, W, 1], sums to one over K."""
    mask_logits: Any
    """[B, K, H, W, 1]."""


class PixelScores(NamedTuple):
    """The terms of a cell's loss that depend on the pixels, and their gradients."""

    log_prob: Any
    """[B, 1, H, W, 1], log p(x | z) of pixels, nats summed over channels."""
    nll: Any
    """[B], - the sum of `log_prob`."""
    entropy: Any
    """[B], H(m), nats summed over pixels."""
    likelihood_share: Any
    """[B, K, H, W, 1], softmax over slots of their likelihoods, not of the logarithms."""
    means_gradient: Any
    """[B, K, H, W, C], dL / d mu."""
    masks_gradient: Any
    """[B, K, H, W, 1], dL / d m."""


class ScoredFrame(NamedTuple):
    """The decode of a frame, its loss, and the gradient of the loss."""

    decoded: DecodedSlots
    pixels: PixelScores
    kl: Any
    """[B], KL(q || p), nats summed over slots."""
    loss: Any
    """[B], L."""
    posterior_gradient: Any
    """[B, K, 2 D], dL / d lambda."""


@keras.saving.register_keras_serializable("tfobj")
class VideoDecomposition(VideoModel):
    """Video decomposition; see the module's docstring."""

    config_class = VideoDecompositionConfig

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        decoder_hidden = ()
        if config.conditional_decoder:
            decoder_hidden = config.decoder_hidden
        self.decoder = SlotDecoder(
            config.image_size,
            config.channels,
            decoder_hidden,
            config.decoder_channels,
            config.decoder_kernel,
            config.decoder_pixel_shuffle,
            config.initial_mean,
            config.output_gain,
            name="slot_decoder",
        )

        self.prior = None
        if config.conditional_prior:
            self.prior = ConditionalPrior(
                config.latent_size, config.prior_hidden, config.prior_scale, name="prior"
            )

        self.refinement = GridRefinement(
            config.refinement_channels,
            config.refinement_kernel,
            config.refinement_stride,
            config.refinement_pool,
            config.refinement_features,
            config.lstm_size,
            config.lstm_form,
            2 * config.latent_size,
            name="refinement",
        )
        self.has_state = config.adapt_likelihood_weight
        self.build()

    def build(self, input_shape=None):
        config = self.config
        self.decoder.build(config.latent_size, config.lstm_size)
        if self.prior is not None:
            self.prior.build(config.lstm_size)

        # Shared: frame, log p, coordinates. Per slot: means and their gradient, masks, mask logits,
        # gradient of the masks, and likelihood share.
        num_channels = 3 * config.channels + 7
        self.refinement.build(config.image_size, num_channels, 4 * config.latent_size)

        self.initial = self.add_weight(
            name="initial_posterior",
            shape=(2 * config.latent_size,),
            autocast=False,
            initializer=keras.initializers.RandomUniform(-0.5, 0.5),
        )
        if config.adapt_likelihood_weight:
            self.weight = self.add_weight(
                name="likelihood_weight",
                shape=(),
                trainable=False,
                autocast=False,
                initializer=keras.initializers.Constant(config.likelihood_weight),
            )
        self.built = True

    def slot_parts(self):
        size = self.config.latent_size
        return {"latent": (0, size), "history": (size, self.config.slot_size)}

    def num_cells(self, frame, num_steps):
        """Returns max(R - t, 2), the number of decodes of frame t (section 3.2.1, Fig. 2)."""
        # No frame is before the first: the state of a stream comes from outside.
        return static.maximum(num_steps - static.maximum(frame, 0), 2)

    def memory_names(self):
        return "posterior", "hidden", "cell", "time_hidden", "time_cell"

    def initial_memory(self, batch, num_slots, seed):
        """Returns (lambda, h_R, c_R, h_T, c_T) before the first frame."""
        zeros = tf.zeros([batch, num_slots, self.config.lstm_size])
        return (self.first_posterior(batch, num_slots), *[zeros] * 4)

    def first_posterior(self, batch, num_slots):
        """Returns lambda_0 for all slots, [batch, num_slots, 2 D]."""
        return tf.broadcast_to(self.initial.value, [batch, num_slots, 2 * self.config.latent_size])

    def weight_terms(self):
        return self.decoder.weight_terms()

    def run_cell(self, image, memory, seed, cell, num_steps, weight_terms):
        posterior, h, c, time_h, time_c = self.enter_cell(memory, cell)
        scored = self.score(image, posterior, time_h, seed, cell, weight_terms)
        delta, new_h, new_c = self.refine(image, scored, posterior, (time_h, time_c), (h, c))

        # A decode without refinement leaves the memory of the LSTM as it was. Its lambda needs no
        # such care, because the next frame begins with lambda_0.
        new_h, new_c = static.where(self.refines(cell), (new_h, new_c), (h, c))
        memory = (posterior + delta, new_h, new_c, time_h, time_c)

        frame_outputs = {
            **self.frame_outputs(scored.decoded, posterior, time_h),
            "nll": scored.pixels.nll,
            "kl": scored.kl,
            "entropy": scored.pixels.entropy,
        }
        return memory, self.cell_weight(cell, num_steps) * scored.loss, frame_outputs

    def imagine_cell(self, memory, seed, cell, num_steps, weight_terms):
        """Predicts a frame: z_0 decoded with the history replaces it, and gradients are zero."""
        posterior, h, c, time_h, time_c = self.enter_cell(memory, cell)
        latents, _ = self.sample_latents(posterior, seed, cell._replace(step=0))
        raw = self.render(latents, time_h, weight_terms)
        decoded = self.decoded_slots(raw)
        image = compose(decoded.masks, decoded.means)

        _, pixels, _ = self.likelihood_and_gradient(raw, image, self.likelihood_weight())
        pixels = pixels._replace(
            means_gradient=tf.zeros_like(pixels.means_gradient),
            masks_gradient=tf.zeros_like(pixels.masks_gradient),
        )
        scored = ScoredFrame(decoded, pixels, None, None, tf.zeros_like(posterior))
        _, h, c = self.refine(image, scored, posterior, (time_h, time_c), (h, c))
        return (posterior, h, c, time_h, time_c), self.frame_outputs(decoded, posterior, time_h)

    def frame_outputs(self, decoded, posterior, time_h):
        """Returns the outputs of a frame that are not terms; see `VideoModel.run_cell`."""
        latents = posterior[..., : self.config.latent_size]
        return {
            "recon": compose(decoded.masks, decoded.means),
            "masks": decoded.masks,
            "slot_recons": decoded.means,
            "slots": tf.concat([latents, time_h], axis=-1),
        }

    def enter_cell(self, memory, cell):
        """Returns the memory with which a cell begins.

        The first cell of a frame starts again from lambda_0 and zeros, and the memory that the
        previous frame left along refinement becomes its memory along time.
        """
        posterior, h, c, _, _ = memory
        first = (
            self.first_posterior(*batch_and_slots(posterior)),
            tf.zeros_like(h),
            tf.zeros_like(c),
            h,
            c,
        )
        return static.where(cell.is_first_step, first, tuple(memory))

    def refines(self, cell):
        """Returns whether a refinement follows the cell's decode.

        None follows the last decode of the first frame, or of every frame in the paper's grid.
        """
        is_last = cell.is_last_step
        if self.config.grid == "release":
            is_last = static.logical_and(is_last, cell.is_first_frame)
        return static.logical_not(is_last)

    def cell_weight(self, cell, num_steps):
        """Returns w, the weight of a cell's loss."""
        if self.config.cell_weights == "release":
            return static.ratio(cell.step + 1, num_steps)
        return static.ratio(cell.step, cell.num_cells - 1)

    def sample_latents(self, posterior, seed, cell):
        """Samples z ~ q.

        Returns:
          latents: [B, K, D]; in the first cell of every frame z_0, the same sample of lambda_0.
          noise: [B, K, D], of this sample; None if the cell is known to be the first.
        """
        shape = [*batch_and_slots(posterior), self.config.latent_size]
        first_noise = random.normal(seed, "video_decomposition/first", shape)
        initial = log_variance_gaussian(self.initial.value)
        first = initial.loc + initial.scale * first_noise
        if static.holds(cell.is_first_step):
            return first, None

        q = log_variance_gaussian(posterior)
        noise = random.normal(seed, "video_decomposition/posterior", shape, index=cell.noise_index)
        latents = q.loc + q.scale * noise
        return static.where(cell.is_first_step, first, latents), noise

    def render(self, latents, time_h, weight_terms):
        """Decodes latents and history (Eq. 6).

        Args:
          latents: [B, K, D].
          time_h: [B, K, lstm_size].
          weight_terms: of `weight_terms()`.

        Returns:
          Decoder outputs [B, K, H, W, C + 1]: means before their sigmoid, and mask logits.
        """
        rows = self.decoder(fold_slots(latents), fold_slots(time_h), weight_terms)
        return unfold_slots(rows, *batch_and_slots(latents))

    def decoded_slots(self, raw):
        """Returns the `DecodedSlots` of decoder outputs."""
        means, mask_logits = split_decoded(raw)
        return DecodedSlots(tf.sigmoid(means), softmax_over_slots(mask_logits), mask_logits)

    def score(self, image, posterior, time_h, seed, cell, weight_terms):
        """Samples z, decodes it, and scores frames [B, H, W, C]: the `ScoredFrame` of a cell."""
        config = self.config
        latents, noise = self.sample_latents(posterior, seed, cell)
        beta = self.likelihood_weight()
        raw, energy, pixels, latent_gradient = decode_and_score(
            lambda z, constants: self.render(z, constants[1], constants[0]),
            lambda raw: self.likelihood_and_gradient(raw, image, beta),
            latents,
            (weight_terms, time_h),
            stopped=config.stop_decoder_inputs,
        )

        # Eq. 7, without the gradient through the pixels.
        kl, kl_gradient = self.divergence(posterior, time_h)
        loss = energy + config.kl_weight * kl
        gradient = config.kl_weight * kl_gradient

        # The first sample of a frame does not depend on lambda.
        if noise is not None:
            deviation = 0.5 * log_variance_gaussian(posterior).scale * noise
            through_sample = tf.concat([latent_gradient, latent_gradient * deviation], axis=-1)
            gradient += static.where(cell.is_first_step, 0.0, through_sample)
        return ScoredFrame(self.decoded_slots(raw), pixels, kl, loss, gradient)

    def likelihood_and_gradient(self, raw, image, beta):
        """Scores frames under decoder outputs; all gradients are closed forms.

        Args:
          raw: [B, K, H, W, C + 1], means before their sigmoid, and mask logits.
          image: [B, H, W, C].
          beta: weight of the likelihood.

        Returns:
          energy: [B], beta NLL + gamma H(m), in nats.
          pixels: `PixelScores`.
          gradient: d energy / d raw, of the shape of `raw`.
        """
        config = self.config
        decoded = self.decoded_slots(raw)
        mixture = self.mixture(decoded)
        terms = mixture.pixel_terms(image)

        # Eq. 1, a mixture of every channel. The released code leaves out the normalising constant,
        # and so do the NLL and the likelihood shares here.
        log_prob = tf.reduce_sum(terms.log_prob + self.log_normaliser, axis=-1, keepdims=True)
        nll = -tf.reduce_sum(log_prob, axis=[1, 2, 3, 4])

        masks = decoded.masks
        log_masks = mixture.log_masks
        negative_entropy = tf.reduce_sum(masks * log_masks, axis=1, keepdims=True)
        entropy = -tf.reduce_sum(negative_entropy, axis=[1, 2, 3, 4])

        # Gradients of the energy. Those of the mixture do not depend on the constant.
        beta_share = beta * tf.reduce_sum(
            tf.exp(terms.component_log_prob - terms.log_prob), axis=-1, keepdims=True
        )
        means_gradient = beta * terms.means_gradient
        masks_gradient = -beta_share - config.entropy_weight * (log_masks + 1.0)
        logits_gradient = beta * terms.logits_gradient - config.entropy_weight * masks * (
            log_masks - negative_entropy
        )

        likelihood = tf.exp(
            tf.reduce_sum(terms.component_log_prob + self.log_normaliser, axis=-1, keepdims=True)
        )
        pixels = PixelScores(
            log_prob,
            nll,
            entropy,
            softmax_over_slots(likelihood),
            means_gradient,
            masks_gradient,
        )
        through_sigmoid = means_gradient * decoded.means * (1.0 - decoded.means)
        gradient = join_decoded(through_sigmoid, logits_gradient)
        return beta * nll + config.entropy_weight * entropy, pixels, gradient

    def mixture(self, decoded):
        """Returns p(x | z, history), a `SpatialMixture`, with normalised Gaussians."""
        return SpatialMixture(
            decoded.means, decoded.mask_logits, self.likelihood_scale, reduce="channel"
        )

    @property
    def likelihood_scale(self):
        """Standard deviation of a pixel given its slot, the square root of v."""
        return math.sqrt(self.config.likelihood_variance)

    @property
    def log_normaliser(self):
        """ln(scale sqrt(2 pi)): added to a log density, it removes the normalising constant."""
        return math.log(self.likelihood_scale * math.sqrt(2.0 * math.pi))

    def divergence(self, posterior, time_h):
        """Returns (KL(q || p) [B] in nats, its gradient with respect to lambda [B, K, 2 D])."""
        q = log_variance_gaussian(posterior)
        mean, log_variance = self.predicted_prior(time_h)
        p = tfd.Normal(mean, tf.exp(0.5 * log_variance))
        kl = tf.reduce_sum(tfd.kl_divergence(q, p), axis=[1, 2])

        variance = tf.exp(log_variance)
        to_mean = (q.loc - mean) / variance
        to_log_variance = 0.5 * (tf.square(q.scale) / variance - 1.0)
        return kl, tf.concat([to_mean, to_log_variance], axis=-1)

    def predicted_prior(self, time_h):
        """Returns (mean, log variance) of p(z_t | history), each [B, K, D] (Eq. 5)."""
        if self.prior is None:
            zeros = tf.zeros([*batch_and_slots(time_h), self.config.latent_size])
            return zeros, zeros
        mean, log_variance = self.prior(time_h)
        return mean, tf.clip_by_value(log_variance, -LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND)

    def refine(self, image, scored, posterior, time_state, refinement_state):
        """Returns (update of lambda [B, K, 2 D], h, c) of one refinement."""
        decoded = scored.decoded
        pixels = scored.pixels
        shared = tf.concat([image[:, None], standardised(pixels.log_prob)], axis=-1)
        per_slot = tf.concat(
            [
                decoded.means,
                decoded.masks,
                decoded.mask_logits,
                standardised(pixels.means_gradient),
                standardised(pixels.masks_gradient),
                pixels.likelihood_share,
            ],
            axis=-1,
        )
        flat = tf.concat([posterior, standardised(scored.posterior_gradient)], axis=-1)
        return self.refinement(shared, per_slot, flat, time_state, refinement_state)

    def likelihood_weight(self):
        """Returns beta."""
        if self.config.adapt_likelihood_weight:
            return self.weight.value
        return tf.constant(self.config.likelihood_weight)

    def update_state(self, terms, statistics, step):
        """Adapts beta to the mean NLL of the last decode of the last frame (released code)."""
        if not self.config.adapt_likelihood_weight:
            return
        nll = terms["last_nll"]
        weight = tf.where(nll > MIDDLE_NLL, MIDDLE_WEIGHT, self.weight.value)
        self.weight.assign(tf.where(nll > HIGH_NLL, HIGH_WEIGHT, weight))

    def decode(self, slots):
        """Renders slots [B, K, D + lstm_size], latents and histories, as a `DecodedScene`."""
        latents, time_h = tf.split(slots, [self.config.latent_size, self.config.lstm_size], axis=-1)
        decoded = self.decoded_slots(self.render(latents, time_h, self.weight_terms()))
        return DecodedScene(compose(decoded.masks, decoded.means), decoded.masks, decoded.means)
