"""Unsupervised video decomposition by spatio-temporal iterative inference (Zablotskaia et al. 2020).

    p(z_t | history) = N(mu~, sigma~^2),  [mu~, sigma~] = xi(h_T)       h_T: what the frame before left in the slot's memory
    p(x_t | z_t, history) = prod_pixels prod_channels sum_k m_k exp(-(x - mu_k)^2 / 2 v),    mu, m = g(z_t, h_T), m = softmax over k
    q(z_t) = N(mu, exp(l)),  lambda = [mu, l]

Inference walks over a grid of cells, frame t by refinement r. A cell draws z ~ q, decodes, scores the frame and refines lambda
by a network that sees the frame, what was drawn, and the gradients of the cell's loss,

    L = beta NLL + psi KL(q || p) + gamma H(m)         lambda <- lambda + refine(., h_T, h_R)

A 2-D LSTM in it has two memories: h_R of the cell before in this frame, h_T of the frame before. Frames become cheaper as history
grows: max(R - t, 2) decodes for frame t = 0, 1, ..., R^2 + T cells instead of R T. Every frame begins with the
same learned lambda_0 and, which is what keeps a slot on its object, the same first draw z_0 of it. Training minimises the sum of
w L over all cells, w = (r + 1) / R, through all refinements and frames.

What comes after the last frame is drawn by decoding z_0 with the history; the drawing takes the place of the frame, all gradients are zero.

Axes: B batch, T frames, R refinements, K slots, H W C image, D latent. The loss of a cell is of a scene (the released code takes the
mean over the batch first, so that the inputs of its refinement depend on the batch size). Published results had 16 more channels in the refinement:
features of a network trained on ImageNet with labels. They are left out.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions.gaussian import LOG_VARIANCE_BOUND, log_variance_gaussian
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
from tfobj.nn.slots import (
    batch_and_slots,
    compose,
    fold_slots,
    join_decoded,
    split_decoded,
    unfold_slots,
)

tfd = tfp.distributions

HIGH_NLL, MIDDLE_NLL = 600.0, 200.0
HIGH_WEIGHT, MIDDLE_WEIGHT = 300.0, 100.0


class Evidence(NamedTuple):
    """What one decode says about a frame."""

    decoded: Any
    """`Decoded`."""
    log_prob: Any
    """[B, 1, H, W, 1], log p(x | z) of pixels, nats, summed over channels."""
    nll: Any
    """[B], - sum of `log_prob`."""
    entropy: Any
    """[B], of the masks, nats summed over pixels."""
    kl: Any
    """[B], KL(q || p), nats summed over slots."""
    loss: Any
    """[B], L."""
    likelihood_share: Any
    """[B, K, H, W, 1], softmax over slots of the slots' likelihoods (not of their logarithms)."""
    means_gradient: Any
    """[B, K, H, W, C], dL / d mu."""
    masks_gradient: Any
    """[B, K, H, W, 1], dL / d m."""
    posterior_gradient: Any
    """[B, K, 2 D], dL / d lambda."""


class Decoded(NamedTuple):
    """A decode of a frame."""

    means: Any
    """[B, K, H, W, C]."""
    masks: Any
    """[B, K, H, W, 1], sums to one over K."""
    mask_logits: Any
    """[B, K, H, W, 1]."""


class Pixels(NamedTuple):
    """The part of `Evidence` that is read off the pixels; without a gradient where the decoder is stopped."""

    log_prob: Any
    nll: Any
    entropy: Any
    likelihood_share: Any
    means_gradient: Any
    masks_gradient: Any


@keras.saving.register_keras_serializable("tfobj")
class VideoDecomposition(VideoModel):
    """Video decomposition; see the module's docstring."""

    config_class = VideoDecompositionConfig

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.decoder = SlotDecoder(
            config.image_size,
            config.channels,
            config.decoder_hidden if config.conditional_decoder else (),
            config.decoder_channels,
            config.decoder_kernel,
            config.decoder_pixel_shuffle,
            config.initial_mean,
            config.output_gain,
            name="decoder",
        )
        self.prior = (
            ConditionalPrior(
                config.latent_size, config.prior_hidden, config.prior_scale, name="prior"
            )
            if config.conditional_prior
            else None
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
        config, size = self.config, self.config.latent_size
        self.decoder.build(size, config.lstm_size)
        if self.prior is not None:
            self.prior.build(config.lstm_size)
        # Frame, log p, coordinates; means and their gradient, masks, logits, gradient and likelihood share of a slot.
        self.refinement.build(config.image_size, 3 * config.channels + 7, 4 * size)
        self.initial = self.add_weight(
            name="initial_posterior",
            shape=(2 * size,),
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
        if isinstance(frame, int) and isinstance(num_steps, int):
            return max(num_steps - frame, 2)
        return tf.maximum(num_steps - frame, 2)

    def memory_names(self):
        return "posterior", "hidden", "cell", "time_hidden", "time_cell"

    def initial_memory(self, batch, num_slots, seed):
        """Returns (lambda, h_R, c_R, h_T, c_T) before the first frame."""
        zeros = tf.zeros([batch, num_slots, self.config.lstm_size])
        return (self.first_posterior(batch, num_slots), *[zeros] * 4)

    def first_posterior(self, batch, num_slots):
        """Returns lambda_0 for all slots, [batch, num_slots, 2 D]."""
        return tf.broadcast_to(self.initial.value, [batch, num_slots, 2 * self.config.latent_size])

    def operators(self):
        return self.decoder.operators()

    def cell(self, image, memory, seed, cell, num_steps, operators):
        posterior, h, c, time_h, time_c = self.enter(memory, cell)
        evidence = self.score(image, posterior, time_h, seed, cell, operators)
        delta, new_h, new_c = self.refine(image, evidence, posterior, (time_h, time_c), (h, c))
        refines = self.refines(cell)
        new_h, new_c = (tf.where(refines, new, old) for new, old in ((new_h, h), (new_c, c)))
        kept = {
            "recon": compose(evidence.decoded.masks, evidence.decoded.means),
            "masks": evidence.decoded.masks,
            "slot_recons": evidence.decoded.means,
            "slots": tf.concat([posterior[..., : self.config.latent_size], time_h], axis=-1),
            "nll": evidence.nll,
            "kl": evidence.kl,
            "entropy": evidence.entropy,
        }
        return (
            (posterior + delta, new_h, new_c, time_h, time_c),
            self.cell_weight(cell, num_steps) * evidence.loss,
            kept,
        )

    def enter(self, memory, cell):
        """Returns the memory of a cell: the first of a frame begins anew, and the memory that the frame before left becomes its history."""
        posterior, h, c, time_h, time_c = memory
        fresh = (
            self.first_posterior(*batch_and_slots(posterior)),
            tf.zeros_like(h),
            tf.zeros_like(c),
            h,
            c,
        )
        if isinstance(cell.step, int):
            return fresh if cell.step == 0 else memory
        return tuple(
            tf.where(tf.equal(cell.step, 0), new, old)
            for new, old in zip(fresh, memory, strict=True)
        )

    def refines(self, cell):
        """Whether the refinement of a cell counts: of the last one of the first frame (or of every frame, in the paper's grid) it does not."""
        ends = cell.step >= cell.num_cells - 1
        return (
            tf.logical_not(ends)
            if self.config.grid == "paper"
            else tf.logical_not(tf.logical_and(ends, tf.equal(cell.frame, 0)))
        )

    def cell_weight(self, cell, num_steps):
        """Returns w of a cell's loss."""
        step, count = (
            (cell.step + 1, num_steps)
            if self.config.cell_weights == "release"
            else (cell.step, cell.num_cells - 1)
        )
        return (
            step / count
            if isinstance(step, int) and isinstance(count, int)
            else tf.cast(step, tf.float32) / tf.cast(count, tf.float32)
        )

    def draw(self, posterior, seed, cell):
        """Returns (z, noise of this draw), each [B, K, D]; in the first cell of a frame z_0, always the same, of lambda_0."""
        shape = [*batch_and_slots(posterior), self.config.latent_size]
        first_noise = random.normal(seed, "video_decomposition/first", shape)
        initial = log_variance_gaussian(self.initial.value)
        first = initial.loc + initial.scale * first_noise
        if isinstance(cell.step, int) and cell.step == 0:
            return first, None
        q = log_variance_gaussian(posterior)
        noise = random.normal(seed, "video_decomposition/posterior", shape, index=cell.noise_index)
        latents = q.loc + q.scale * noise
        return (
            latents
            if isinstance(cell.step, int)
            else tf.where(tf.equal(cell.step, 0), first, latents)
        ), noise

    def render(self, latents, time_h, operators):
        """Latents and history [B, K, .] -> decoder outputs [B, K, H, W, C + 1]: mean before its sigmoid, mask logit."""
        batch, num_slots = batch_and_slots(latents)
        return unfold_slots(
            self.decoder(fold_slots(latents), fold_slots(time_h), operators), batch, num_slots
        )

    def read_decoded(self, raw):
        """Returns the `Decoded` of decoder outputs."""
        means, mask_logits = split_decoded(raw)
        return Decoded(tf.sigmoid(means), tf.nn.softmax(mask_logits, axis=1), mask_logits)

    def score(self, image, posterior, time_h, seed, cell, operators):
        """Draws, decodes and scores frames [B, H, W, C]: the `Evidence` of a cell."""
        config = self.config
        latents, noise = self.draw(posterior, seed, cell)
        beta = self.likelihood_weight()
        read = lambda raw: self.read(raw, image, beta)
        raw, energy, pixels, latent_gradient = decode_and_score(
            lambda z, constants: self.render(z, constants[1], constants[0]),
            read,
            latents,
            (operators, time_h),
            stopped=config.stop_decoder_inputs,
        )
        kl, kl_gradient = self.divergence(posterior, time_h)
        gradient = config.kl_weight * kl_gradient
        if noise is not None:  # the first draw of a frame does not depend on lambda
            deviation = 0.5 * log_variance_gaussian(posterior).scale * noise
            through_draw = tf.concat([latent_gradient, latent_gradient * deviation], axis=-1)
            gradient += (
                through_draw
                if isinstance(cell.step, int)
                else tf.where(tf.equal(cell.step, 0), 0.0, through_draw)
            )
        return Evidence(
            self.read_decoded(raw),
            pixels.log_prob,
            pixels.nll,
            pixels.entropy,
            kl,
            energy + config.kl_weight * kl,
            pixels.likelihood_share,
            pixels.means_gradient,
            pixels.masks_gradient,
            gradient,
        )

    def read(self, raw, image, beta):
        """Returns (energy [B] = beta NLL + gamma H, `Pixels`, d energy / d raw) of decoder outputs, by closed forms."""
        config, decoded = self.config, self.read_decoded(raw)
        means, masks = decoded.means, decoded.masks
        error = image[:, None] - means
        likelihood = tf.exp(
            -0.5 / config.likelihood_variance * tf.square(error)
        )  # [B, K, H, W, C], in (0.18, 1]
        mixture = tf.reduce_sum(masks * likelihood, axis=1, keepdims=True)  # [B, 1, H, W, C]
        log_prob = tf.reduce_sum(tf.math.log(mixture), axis=-1, keepdims=True)
        log_masks = tf.nn.log_softmax(decoded.mask_logits, axis=1)
        nll = -tf.reduce_sum(log_prob, axis=[1, 2, 3, 4])
        entropy = -tf.reduce_sum(masks * log_masks, axis=[1, 2, 3, 4])
        share = likelihood / mixture
        means_gradient = -beta / config.likelihood_variance * masks * share * error
        masks_gradient = -beta * tf.reduce_sum(
            share, axis=-1, keepdims=True
        ) - config.entropy_weight * (log_masks + 1.0)
        logits_gradient = masks * (
            masks_gradient - tf.reduce_sum(masks * masks_gradient, axis=1, keepdims=True)
        )
        pixels = Pixels(
            log_prob,
            nll,
            entropy,
            tf.nn.softmax(tf.reduce_prod(likelihood, axis=-1, keepdims=True), axis=1),
            means_gradient,
            masks_gradient,
        )
        return (
            beta * nll + config.entropy_weight * entropy,
            pixels,
            join_decoded(means_gradient * means * (1.0 - means), logits_gradient),
        )

    def divergence(self, posterior, time_h):
        """Returns (KL(q || p) [B] in nats, its gradient with respect to lambda [B, K, 2 D])."""
        q, (mean, log_variance) = log_variance_gaussian(posterior), self.expected(time_h)
        kl = tf.reduce_sum(
            tfd.kl_divergence(q, tfd.Normal(mean, tf.exp(0.5 * log_variance))), axis=[1, 2]
        )
        variance = tf.exp(log_variance)
        return kl, tf.concat(
            [(q.loc - mean) / variance, 0.5 * (tf.square(q.scale) / variance - 1.0)], axis=-1
        )

    def expected(self, time_h):
        """Returns (mean, log variance) of p(z_t | history), each [B, K, D]."""
        if self.prior is None:
            zeros = tf.zeros([*batch_and_slots(time_h), self.config.latent_size])
            return zeros, zeros
        mean, log_variance = self.prior(time_h)
        return mean, tf.clip_by_value(log_variance, -LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND)

    def refine(self, image, evidence, posterior, time_state, refinement_state):
        """Returns (update of lambda [B, K, 2 D], h, c)."""
        shared = tf.concat([image[:, None], standardised(evidence.log_prob)], axis=-1)
        decoded = evidence.decoded
        per_slot = tf.concat(
            [
                decoded.means,
                decoded.masks,
                decoded.mask_logits,
                standardised(evidence.means_gradient),
                standardised(evidence.masks_gradient),
                evidence.likelihood_share,
            ],
            axis=-1,
        )
        flat = tf.concat([posterior, standardised(evidence.posterior_gradient)], axis=-1)
        return self.refinement(shared, per_slot, flat, time_state, refinement_state)

    def imagined_cell(self, memory, seed, cell, num_steps, operators):
        posterior, h, c, time_h, time_c = self.enter(memory, cell)
        latents, _ = self.draw(posterior, seed, cell._replace(step=0))
        raw = self.render(latents, time_h, operators)
        decoded = self.read_decoded(raw)
        image = compose(decoded.masks, decoded.means)
        _, pixels, _ = self.read(raw, image, self.likelihood_weight())
        zeros = tf.zeros_like
        evidence = Evidence(
            decoded,
            pixels.log_prob,
            pixels.nll,
            pixels.entropy,
            None,
            None,
            pixels.likelihood_share,
            zeros(pixels.means_gradient),
            zeros(pixels.masks_gradient),
            zeros(posterior),
        )
        _, h, c = self.refine(image, evidence, posterior, (time_h, time_c), (h, c))
        kept = {
            "recon": image,
            "masks": decoded.masks,
            "slot_recons": decoded.means,
            "slots": tf.concat([posterior[..., : self.config.latent_size], time_h], axis=-1),
        }
        return (posterior, h, c, time_h, time_c), kept

    def likelihood_weight(self):
        """Returns beta."""
        return (
            self.weight.value
            if self.config.adapt_likelihood_weight
            else tf.constant(self.config.likelihood_weight)
        )

    def update_state(self, terms, statistics, step):
        """beta follows the mean NLL of the last decode of the last frame."""
        if self.config.adapt_likelihood_weight:
            nll, weight = terms["last_nll"], self.weight.value
            self.weight.assign(
                tf.where(
                    nll > HIGH_NLL, HIGH_WEIGHT, tf.where(nll > MIDDLE_NLL, MIDDLE_WEIGHT, weight)
                )
            )

    def decode(self, slots):
        """Renders slots [B, K, D + lstm_size], latents and histories, as a `DecodedScene`."""
        latents, time_h = tf.split(slots, [self.config.latent_size, self.config.lstm_size], axis=-1)
        decoded = self.read_decoded(self.render(latents, time_h, self.operators()))
        return DecodedScene(compose(decoded.masks, decoded.means), decoded.masks, decoded.means)
