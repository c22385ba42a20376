"""Relational neural expectation maximisation (van Steenkiste et al. 2018) and its relatives.

RNN-EM and N-EM (Greff et al. 2017), and plain recurrent networks.

    p(x_t) = prod_pixels mean_k p(x_t | psi_k)      psi_k [H, W, C]: slot k's prediction of the
                                                    whole frame, Bernoulli means

    E-step    gamma_k = q_k / sum_k q_k,  q_k = sum_channels p(x_t | psi_k) + 1e-6
    M-step    h_k <- core(gamma_k (noise(x_t) - psi_k), h),   psi_k <- f(h_k), predicts x_{t+1}

The core is recurrent (RNN-EM); in R-NEM it lets the slots interact. A slot should predict the
pixels that it explains, and predict black everywhere else:

    L_t = sum_{k, pixels, channels} [ gamma BCE(psi, x_t) + w (1 - gamma) KL(Ber(0) || Ber(psi)) ]

without a gradient through gamma. There is no prediction of the first frame: psi = 0, gamma is
noise, and its loss is zero. Training minimises the mean of L_t over all other frames. Because
gamma depends on the frame that it explains, the mixture of predictions sees the target;
`upper_bound`, the BCE of max_k psi, does not.

After the last frame, the mixture of predictions replaces the frame, and its gamma is that of
max_k psi, made binary.

Left out: the losses weighted by collisions, and the networks for flying digits and Atari. All
losses are computed from the logits a of psi: BCE = softplus(a) - x a, KL = softplus(a). The
released code clips psi at 1e-6 instead.

Axes: B batch, T frames (index t), K slots, H W C image, D state. Losses are in nats, summed over
slots, pixels, and channels.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.models.base import DecodedScene
from tfobj.models.rnem.config import RNemConfig
from tfobj.models.rnem.cores import GradientCore, LSTMCore, RecurrentCore, RelationalCore
from tfobj.models.rnem.networks import Decoder, Encoder
from tfobj.models.video import VideoModel
from tfobj.nn import static
from tfobj.nn.layers import logit
from tfobj.nn.slots import batch_and_slots, batch_size, compose, fold_slots, unfold_slots

tfd = tfp.distributions

LEAST_LIKELIHOOD = 1e-6
"""Added to likelihoods in the E-step, so that slots share a pixel where all of them are wrong."""
TERMS = ("intra", "inter", "upper_bound")


@keras.saving.register_keras_serializable("tfobj")
class RNem(VideoModel):
    """R-NEM; see the module's docstring.

    A slot's vector is the state that its prediction is rendered from, so
    `decode(slots).slot_recons` are those of the outputs, except for the first frame, of which
    there is no prediction. Scores count the first frame like every other, with noise as masks and
    a black reconstruction.
    """

    config_class = RNemConfig
    has_steps = False

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.encoder = None
        self.decoder = None
        if config.variant == "nem":
            self.core = GradientCore(
                (*config.image_size, config.channels), config.state_size, name="core"
            )
        else:
            self._add_networks()
        self.build()

    def _add_networks(self):
        config = self.config
        epsilon = config.layer_norm_epsilon
        self.encoder = Encoder(
            config.encoder_channels,
            config.kernel_size,
            config.encoder_hidden,
            epsilon,
            name="encoder",
        )

        self.core = self._recurrent_core()

        initial_bias = 0.0
        if config.likelihood == "bernoulli":
            initial_bias = logit(config.initial_mean)
        self.decoder = Decoder(
            config.image_size,
            config.channels,
            config.decoder_hidden,
            config.decoder_channels,
            config.kernel_size,
            epsilon,
            initial_bias,
            name="decoder",
        )

    def _recurrent_core(self):
        config = self.config
        epsilon = config.layer_norm_epsilon
        if config.variant == "lstm":
            return LSTMCore(config.state_size, epsilon, name="core")
        if config.variant != "rnem":
            return RecurrentCore(config.state_size, epsilon, name="core")

        attention_size = None
        if config.attention:
            attention_size = config.attention_size
        return RelationalCore(
            config.state_size, config.relation_size, attention_size, epsilon, name="core"
        )

    def build(self, input_shape=None):
        if self.encoder is None:
            self.core.build()
        else:
            self.encoder.build((None, *self.config.image_size, self.config.channels))
            self.core.build(self.encoder.num_features)
            self.decoder.build((None, self.config.state_size))
        self.built = True

    def memory_names(self):
        return self.core.memory_names

    def initial_memory(self, batch, num_slots, seed):
        return tuple(
            tf.zeros([batch, num_slots, self.config.state_size]) for _ in self.memory_names()
        )

    def run_cell(self, image, memory, seed, cell, num_steps, weight_terms):
        # The memory left by the previous frame predicts this one, then learns from it.
        logits, means = self.predict_frame(memory, cell)
        responsibilities = self.responsibilities(image, means, seed, cell)
        loss, terms = self.frame_loss(image, logits, responsibilities, cell)
        frame_outputs = {**self.frame_outputs(means, responsibilities, memory), **terms}
        memory = self.m_step(image, means, responsibilities, memory, seed, cell)
        return memory, loss, frame_outputs

    def imagine_cell(self, memory, seed, cell, num_steps, weight_terms):
        """Predicts a frame, and updates the memory with it."""
        _, means = self.predict_frame(memory, cell)
        responsibilities = self.responsibilities(self.likely_frame(means), means, seed, cell)
        frame_outputs = self.frame_outputs(means, responsibilities, memory)
        image = frame_outputs["recon"]
        memory = self.m_step(image, means, responsibilities, memory, seed, cell)
        return memory, frame_outputs

    def frame_outputs(self, means, responsibilities, memory):
        """Returns the outputs of a frame that are not terms; see `VideoModel.run_cell`."""
        return {
            "recon": compose(responsibilities, means),
            "masks": responsibilities,
            "slot_recons": means,
            "slots": memory[-1],
        }

    def predict_frame(self, memory, cell):
        """Returns (logits, psi), each [B, K, H, W, C], predicted from the memory.

        There is no prediction of the first frame: psi = 0. Its logits are of no use, because its
        loss is zero.
        """
        config = self.config
        if static.holds(cell.is_first_frame):
            zeros = tf.zeros([*batch_and_slots(memory[-1]), *config.image_size, config.channels])
            return zeros, zeros

        logits = self.render(memory[-1])
        return logits, static.where(cell.is_first_frame, 0.0, self.means(logits))

    def responsibilities(self, target, means, seed, cell):
        """Returns gamma [B, K, H, W, 1] of a frame [B, H, W, C] under its prediction psi.

        Those of the first frame are noise.
        """
        gamma = static.where(
            cell.is_first_frame,
            lambda: self.initial_responsibilities(means, seed),
            lambda: self.e_step(target, means),
        )
        if self.config.stop_responsibilities:
            return tf.stop_gradient(gamma)
        return gamma

    def initial_responsibilities(self, means, seed):
        """Returns |n| / sum_k |n| [B, K, H, W, 1], n ~ N(0, 1): only n distinguishes the slots."""
        shape = [*batch_and_slots(means), *self.config.image_size, 1]
        share = tf.abs(random.normal(seed, "rnem/responsibilities", shape))  # never zero
        return share / tf.reduce_sum(share, axis=1, keepdims=True)

    def e_step(self, target, means):
        """Returns gamma [B, K, H, W, 1], positive, sums to one over K."""
        target = target[:, None]
        if self.config.likelihood == "bernoulli":
            likelihood = target * means + (1.0 - target) * (1.0 - means)
        else:
            likelihood = tfd.Normal(means, self.config.e_step_scale).prob(target)
        likelihood = tf.reduce_sum(likelihood, axis=-1, keepdims=True) + LEAST_LIKELIHOOD
        return likelihood / tf.reduce_sum(likelihood, axis=1, keepdims=True)

    def likely_frame(self, means):
        """Returns the target [B, H, W, C] of the E-step of a frame that was not observed.

        The brightest prediction of any slot, made binary for Bernoulli pixels.
        """
        brightest = tf.reduce_max(means, axis=1)
        if self.config.likelihood == "bernoulli":
            return tf.cast(brightest > self.config.rollout_threshold, tf.float32)
        return brightest

    def frame_loss(self, target, logits, responsibilities, cell):
        """Returns (share of the training loss [B], terms [B]) of a frame; zeros for the first.

        Args:
          target: [B, H, W, C].
          logits: [B, K, H, W, C].
          responsibilities: gamma [B, K, H, W, 1].
          cell: `Cell`.
        """
        target = target[:, None]
        intra, inter = self.pixel_losses(target, logits)
        brightest = tf.reduce_max(logits, axis=1, keepdims=True)
        upper_bound, _ = self.pixel_losses(target, brightest)

        # A factor of 0 or 1, because only the graph knows which frame of a loop is the first.
        is_predicted = tf.cast(tf.greater(cell.frame, 0), tf.float32)
        terms = {
            "intra": responsibilities * intra,
            "inter": (1.0 - responsibilities) * inter,
            "upper_bound": upper_bound,
        }
        terms = {
            name: is_predicted * tf.reduce_sum(term, axis=[1, 2, 3, 4])
            for name, term in terms.items()
        }

        loss = terms["intra"] + self.config.inter_weight * terms["inter"]
        return self.loss_weight(cell) * loss, terms

    def pixel_losses(self, target, logits):
        """Returns (- log p(x | psi), KL(black || psi)) in nats per pixel and channel.

        The constant of the Gaussian is left out.
        """
        if self.config.likelihood == "bernoulli":
            black = tf.nn.softplus(logits)
            return black - target * logits, black
        return 0.5 * tf.square(logits - target), 0.5 * tf.square(logits)

    def loss_weight(self, cell):
        """Returns the weight of a frame's loss in that of its clip; 1 in a stream."""
        reduction = self.config.loss_reduction
        if cell.num_frames is None or reduction == "sum":
            return 1.0
        if reduction == "last":
            return tf.cast(tf.equal(cell.frame, cell.num_frames - 1), tf.float32)
        # A clip of one frame would divide by zero.
        return 1.0 / tf.cast(tf.maximum(cell.num_frames - 1, 1), tf.float32)

    def m_step(self, image, means, responsibilities, memory, seed, cell):
        """Returns the memory after a frame [B, H, W, C], observed or predicted."""
        difference = responsibilities * (self.corrupt(image, seed, cell)[:, None] - means)
        rows = fold_slots(difference)
        features = self.core.encode(rows) if self.encoder is None else self.encoder(rows)
        return self.core(unfold_slots(features, *batch_and_slots(memory[-1])), tuple(memory))

    def corrupt(self, image, seed, cell):
        """Returns images [B, H, W, C] with noise, the same for all slots.

        Bernoulli pixels are flipped, Gaussian ones replaced by uniform noise; in training only, or
        everywhere.
        """
        config = self.config
        if not config.noise or not (cell.training or config.noise_everywhere):
            return image

        shape = [batch_size(image), *image.shape[1:]]
        index = cell.noise_index
        is_hit = random.uniform(seed, "rnem/noise", shape, index=index) < config.noise
        if config.likelihood == "bernoulli":
            return tf.where(is_hit, 1.0 - image, image)
        return tf.where(
            is_hit, random.uniform(seed, "rnem/noise_values", shape, index=index), image
        )

    def render(self, slots):
        """Decodes slots [B, K, D] to logits of psi, or psi under the Gaussian, [B, K, H, W, C]."""
        rows = fold_slots(slots)
        rows = self.core.render(rows) if self.decoder is None else self.decoder(rows)
        return unfold_slots(rows, *batch_and_slots(slots))

    def means(self, logits):
        """Returns psi of the outputs of `render`."""
        if self.config.likelihood == "bernoulli":
            return tf.sigmoid(logits)
        return logits

    def decode(self, slots):
        """Renders slots [B, K, D] as a `DecodedScene`.

        Masks explain a frame, and here there is none: they are those of a predicted frame.
        """
        means = self.means(self.render(slots))
        masks = self.e_step(self.likely_frame(means), means)
        return DecodedScene(compose(masks, means), masks, means)

    def _clip_outputs(self, image, loss, frames):
        """Returns `SceneOutputs`; terms are means over the predicted frames, the MSE over all."""
        first = tf.minimum(1, tf.shape(frames["recon"])[0] - 1)
        predicted = {name: frames[name][first:] for name in TERMS}
        return super()._clip_outputs(image, loss, {**frames, **predicted})
