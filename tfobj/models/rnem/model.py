"""Relational neural expectation maximisation (van Steenkiste et al. 2018), RNN-EM and N-EM (Greff et al. 2017), and plain recurrent networks.

    p(x_t) = prod_pixels mean_k p(x_t | psi_k)       psi_k [H, W, C]: what slot k predicted of the whole frame, Bernoulli means

    E-step     gamma_k = q_k / sum_k q_k,  q_k = sum_channels p(x_t | psi_k) + 1e-6
    M-step     h_k <- cell(gamma_k (noise(x_t) - psi_k), h),   psi_k <- f(h_k), the prediction of x_{t+1}

The cell is recurrent (RNN-EM) and in R-NEM slots act on each other in it. A slot should predict what it explains, and draw black,
which is what there is where nobody draws, elsewhere:

    L_t = sum_{k, pixels, channels} [ gamma BCE(psi, x_t) + w (1 - gamma) KL(Ber(0) || Ber(psi)) ]        gamma: no gradient

Nothing is predicted of the first frame: psi = 0, gamma is noise, and its loss is zero. Training minimises the mean of L_t over the
others. gamma of a frame is computed from that frame, so the mixture of predictions peeks at it; `upper_bound`, the BCE of
max_k psi, does not.

After the last frame the mixture of the predictions takes the place of the frame; its gammas are those of max_k psi, made binary.

Left out: the losses weighted by collisions, and the networks for flying digits and Atari.

Everything is computed from the logits of psi: BCE = softplus(a) - x a, KL = softplus(a). The released code clips psi at 1e-6.

Axes: B batch, T frames, K slots, H W C image, D state. Losses are in nats, summed over slots, pixels and channels.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.models.base import DecodedScene
from tfobj.models.rnem.config import RNemConfig, RnnEMConfig
from tfobj.models.rnem.cores import GradientCore, LSTMCore, RecurrentCore, RelationalCore
from tfobj.models.rnem.networks import Decoder, Encoder
from tfobj.models.video import VideoModel
from tfobj.nn.layers import logit
from tfobj.nn.slots import batch_and_slots, batch_size, compose, fold_slots, unfold_slots

tfd = tfp.distributions

LEAST_LIKELIHOOD = 1e-6
"""Added to the likelihoods in the E-step: where all slots are wrong they share the pixel."""
TERMS = ("intra", "inter", "upper_bound")


@keras.saving.register_keras_serializable("tfobj")
class RNem(VideoModel):
    """R-NEM; see the module's docstring.

    A slot's vector is what its prediction is drawn from: `decode(slots).slot_recons` are the outputs', but for the first frame, of which
    nothing was predicted. Scores count that frame, its masks noise and its reconstruction black, as they count every other.
    """

    config_class = RNemConfig
    has_steps = False

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        epsilon = config.layer_norm_epsilon
        self.encoder = self.decoder = None
        if config.variant == "nem":
            self.core = GradientCore(
                (*config.image_size, config.channels), config.state_size, name="core"
            )
        else:
            self.encoder = Encoder(
                config.encoder_channels,
                config.kernel_size,
                config.encoder_hidden,
                epsilon,
                name="encoder",
            )
            self.core = self._recurrent_core()
            self.decoder = Decoder(
                config.image_size,
                config.channels,
                config.decoder_hidden,
                config.decoder_channels,
                config.kernel_size,
                epsilon,
                logit(config.initial_mean) if config.likelihood == "bernoulli" else 0.0,
                name="decoder",
            )
        self.build()

    def _recurrent_core(self):
        config, epsilon = self.config, self.config.layer_norm_epsilon
        if config.variant == "rnem":
            return RelationalCore(
                config.state_size,
                config.relation_size,
                config.attention_size if config.attention else None,
                epsilon,
                name="core",
            )
        core_class = LSTMCore if config.variant == "lstm" else RecurrentCore
        return core_class(config.state_size, epsilon, name="core")

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

    def cell(self, image, memory, seed, cell, num_steps, operators):
        raw, means = self.expect(memory, cell)
        responsibilities = self.explain(image, means, seed, cell)
        loss, terms = self.score(image, raw, responsibilities, cell)
        after = self.follow(image, means, responsibilities, memory, seed, cell)
        return after, loss, {**self._record(means, responsibilities, memory), **terms}

    def imagined_cell(self, memory, seed, cell, num_steps, operators):
        _, means = self.expect(memory, cell)
        responsibilities = self.explain(self.guess(means), means, seed, cell)
        kept = self._record(means, responsibilities, memory)
        return self.follow(kept["recon"], means, responsibilities, memory, seed, cell), kept

    def _record(self, means, responsibilities, memory):
        return {
            "recon": compose(responsibilities, means),
            "masks": responsibilities,
            "slot_recons": means,
            "slots": memory[-1],
        }

    def expect(self, memory, cell):
        """Returns (logits, psi), each [B, K, H, W, C]: what the memory predicts of a frame. Of the first one it is nothing, psi = 0."""
        config = self.config
        if isinstance(cell.frame, int) and cell.frame == 0:
            nothing = tf.zeros([*batch_and_slots(memory[-1]), *config.image_size, config.channels])
            return nothing, nothing
        raw = self.render(memory[-1])
        means = self.read(raw)
        return raw, means if isinstance(cell.frame, int) else tf.where(
            tf.equal(cell.frame, 0), 0.0, means
        )

    def explain(self, target, means, seed, cell):
        """Returns gamma [B, K, H, W, 1] of a frame [B, H, W, C] that psi was predicted of; of the first one it is noise."""
        if isinstance(cell.frame, int):
            responsibilities = (
                self.initial_responsibilities(means, seed)
                if cell.frame == 0
                else self.e_step(target, means)
            )
        else:
            responsibilities = tf.where(
                tf.equal(cell.frame, 0),
                self.initial_responsibilities(means, seed),
                self.e_step(target, means),
            )
        return (
            tf.stop_gradient(responsibilities)
            if self.config.stop_responsibilities
            else responsibilities
        )

    def initial_responsibilities(self, means, seed):
        """Returns |n| / sum_k |n|, n ~ N(0, 1), which nothing but the slots' noise tells apart; n is never zero."""
        share = tf.abs(
            random.normal(
                seed, "rnem/responsibilities", [*batch_and_slots(means), *self.config.image_size, 1]
            )
        )
        return share / tf.reduce_sum(share, axis=1, keepdims=True)

    def e_step(self, target, means):
        """Returns gamma [B, K, H, W, 1], above zero, sums to one over K."""
        target = target[:, None]
        if self.config.likelihood == "bernoulli":
            likelihood = target * means + (1.0 - target) * (1.0 - means)
        else:
            likelihood = tfd.Normal(means, self.config.e_step_scale).prob(target)
        likelihood = tf.reduce_sum(likelihood, axis=-1, keepdims=True) + LEAST_LIKELIHOOD
        return likelihood / tf.reduce_sum(likelihood, axis=1, keepdims=True)

    def guess(self, means):
        """Returns the frame [B, H, W, C] that stands for one that nobody has seen in its E-step: the brightest prediction, binary for Bernoulli pixels."""
        brightest = tf.reduce_max(means, axis=1)
        return (
            tf.cast(brightest > self.config.rollout_threshold, tf.float32)
            if self.config.likelihood == "bernoulli"
            else brightest
        )

    def score(self, target, raw, responsibilities, cell):
        """Returns (share of the training loss [B], terms [B] of this frame); zeros for the first one, of which nothing was predicted."""
        intra, inter = self.errors(target[:, None], raw)
        total = lambda x: tf.reduce_sum(x, axis=[1, 2, 3, 4])
        upper_bound, _ = self.errors(target[:, None], tf.reduce_max(raw, axis=1, keepdims=True))
        predicted = tf.cast(tf.greater(cell.frame, 0), tf.float32)
        terms = {
            "intra": total(responsibilities * intra),
            "inter": total((1.0 - responsibilities) * inter),
            "upper_bound": total(upper_bound),
        }
        terms = {name: predicted * term for name, term in terms.items()}
        return self.loss_weight(cell) * (
            terms["intra"] + self.config.inter_weight * terms["inter"]
        ), terms

    def errors(self, target, raw):
        """Returns (- log p(x | psi), KL(black || psi)) of logits, in nats per pixel and channel, without the Gaussian's constant."""
        if self.config.likelihood == "bernoulli":
            black = tf.nn.softplus(raw)
            return black - target * raw, black
        return 0.5 * tf.square(raw - target), 0.5 * tf.square(raw)

    def loss_weight(self, cell):
        """Returns the weight of a frame's loss in that of its clip; 1 in a stream."""
        reduction = self.config.loss_reduction
        if cell.num_frames is None or reduction == "sum":
            return 1.0
        if reduction == "last":
            return tf.cast(tf.equal(cell.frame, cell.num_frames - 1), tf.float32)
        return 1.0 / tf.cast(tf.maximum(cell.num_frames - 1, 1), tf.float32)

    def follow(self, image, means, responsibilities, memory, seed, cell):
        """Returns the memory after a frame [B, H, W, C], or after what stands for it: the M-step."""
        difference = responsibilities * (self.corrupt(image, seed, cell)[:, None] - means)
        rows = fold_slots(difference)
        features = self.core.encode(rows) if self.encoder is None else self.encoder(rows)
        return self.core(unfold_slots(features, *batch_and_slots(memory[-1])), tuple(memory))

    def corrupt(self, image, seed, cell):
        """Returns images [B, H, W, C] with noise, in training or everywhere: flipped where it strikes, or under the Gaussian uniform; the same for all slots."""
        rate = self.config.noise
        if not rate or not (cell.training or self.config.noise_everywhere):
            return image
        shape = [batch_size(image), *image.shape[1:]]
        struck = random.uniform(seed, "rnem/noise", shape, index=cell.noise_index) < rate
        if self.config.likelihood == "bernoulli":
            return tf.where(struck, 1.0 - image, image)
        return tf.where(
            struck, random.uniform(seed, "rnem/noise_values", shape, index=cell.noise_index), image
        )

    def render(self, slots):
        """Slots [B, K, D] -> logits of psi [B, K, H, W, C], or psi under the Gaussian."""
        rows = fold_slots(slots)
        return unfold_slots(
            self.core.render(rows) if self.decoder is None else self.decoder(rows),
            *batch_and_slots(slots),
        )

    def read(self, raw):
        """Returns psi of what `render` returns."""
        return tf.sigmoid(raw) if self.config.likelihood == "bernoulli" else raw

    def decode(self, slots):
        """Renders slots [B, K, D] as a `DecodedScene`. There is no frame that masks could be those of: they are those of a frame that nobody has seen."""
        means = self.read(self.render(slots))
        masks = self.e_step(self.guess(means), means)
        return DecodedScene(compose(masks, means), masks, means)

    def _outputs(self, image, loss, records):
        """The terms of R-NEM are means over the frames that were predicted, all but the first; the MSE is that of all frames."""
        first = tf.minimum(1, tf.shape(records["recon"])[0] - 1)
        return super()._outputs(
            image,
            loss,
            {name: value[first:] if name in TERMS else value for name, value in records.items()},
        )


@keras.saving.register_keras_serializable("tfobj")
class RnnEM(RNem):
    """RNN-EM: R-NEM without relations; the same settings otherwise."""

    config_class = RnnEMConfig
