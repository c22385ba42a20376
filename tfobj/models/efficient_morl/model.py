"""EfficientMORL (Emami et al. 2021, "Efficient Iterative Amortized Inference for Learning Symmetric and Disentangled
Multi-Object Representations").

    p(x|z)     colours and masks of every slot from decoder(z_k): normal around their mixed mean, or a mixture
    p(z^1:L)   reversed:  p(z^L) prod_l p(z^l | z^{l+1})                          (`priors.py`)
    q(z^1:L)   prod_l q(z^l | z^{l-1}, x), each layer one iteration of slot attention with samples as queries   (`bottom_up.py`)

Inference has two stages. The bottom-up layers give lambda_0 = [loc, raw] of q(z^L). Then a light network refines it I
times; it sees latents and the gradient of the loss with respect to them, never the image:

    lambda_i = lambda_{i-1} + refine(lambda_{i-1}, d L_{i-1} / d lambda_{i-1}, memory)

    L_i = KL_i + multiplier * NLL_i,      loss = L_0 + sum_{i >= 1} (I - i + 1) / (I + 1) L_i       (Eq. 8)

KL_0 sums over all layers, KL_i holds q(z; lambda_i) against p(z^1 | z^2) ("reversed++"). GECO chooses the multiplier. I falls
while training (3, then 1), and a trained model needs few refinements or none.

The decoder reaches the loss through the NLL alone, so that its one backward pass per decode yields the gradient that
the refinement sees and that of its weights.

Axes: B batch, L layers, K slots, N tokens, H W C image, D latent. I counts refinements (`num_steps`).
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import execution
from tfobj.config import require
from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.inference.geco import (
    EASY_ERROR,
    HALF_LOG_2_PI,
    ErrorMultiplier,
    gaussian_floor,
    mean_squared_error_at,
)
from tfobj.inference.schedules import check_schedule
from tfobj.inference.score import decode_and_score
from tfobj.models.base import DecodedScene, SceneConfig, SceneModel, Stage
from tfobj.models.efficient_morl.bottom_up import StochasticLayer, TokenEncoder
from tfobj.models.efficient_morl.decoders import make_decoder
from tfobj.models.efficient_morl.priors import LayerPriors, draw, gaussian
from tfobj.models.efficient_morl.refinement import LatentRefinement
from tfobj.nn.iteration import iterate
from tfobj.nn.slots import (
    batch_and_slots,
    batch_size,
    compose,
    fold_slots,
    split_decoded,
    unfold_slots,
)
from tfobj.structs import SceneOutputs

tfd = tfp.distributions

FURTHEST_BELOW = 0.1
"""GECO targets may lie so far below the least NLL, nats per pixel and channel; the published one for Tetrominoes does by 0.02."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EfficientMORLConfig(SceneConfig):
    """EfficientMORL. Defaults: the paper's Tetrominoes model (Emami 2021, appendix F): 467,236 parameters."""

    image_size: tuple[int, int] = (35, 35)
    channels: int = 3
    num_slots: int = 4
    num_steps: int = 3
    """I, refinements; in training those at the start. 0 is allowed: the layers alone."""
    curriculum: tuple[tuple[int, int], ...] = ()
    """(step, I): refinements in training from that many updates on."""
    num_layers: int = 3
    """L, stochastic layers."""
    latent_size: int = 32
    encoder_channels: tuple[int, ...] = (64, 64, 64, 64)
    encoder_kernels: tuple[int, ...] = (5,)
    encoder_strides: tuple[int, ...] = (1,)
    decoder: Literal["iodine", "small", "big"] = "small"
    decoder_channels: tuple[int, ...] = ()
    """Hidden layers; empty: those of the paper."""
    decoder_pixel_shuffle: int = 1
    """Above 1 (ours): the decoder runs at 1 / r of the resolution and its last layer yields r x r pixels per position."""
    decoder_coarse_masks: bool = False
    """With a pixel shuffle (ours): one mask logit per position, enlarged bilinearly, so that masks cannot follow single pixels."""
    dual_gru: bool = True
    """False: the ablation with one GRU of width 2 D (Table 2)."""
    prior: Literal["bottom_up", "reversed", "reversed++"] = "reversed++"
    likelihood: Literal["gaussian", "mixture"] = "gaussian"
    """Of the image given all slots: normal around the mixed mean (Eq. 12), or a mixture (Eq. 13). Both without 1/2 ln 2 pi."""
    likelihood_scale: float = 0.3
    """Standard deviation, image in [0, 1]."""
    mixture_reduce: Literal["channel", "pixel"] = "channel"
    """Whether the colour channels of a pixel have mixtures of their own (Eq. 13 and released code) or share one."""
    kl_weight: float = 1.0
    refinement_weighting: Literal["eq8", "released"] = "eq8"
    """Weights of the L_i; "released": (I + 3 - i) / (I + 1), by what looks like a slip in operator precedence."""
    geco_target: float | None = None
    """Bound on the NLL in nats per pixel and channel; none: no GECO. The published -1.224 on Tetrominoes lies below the least
    value of the NLL, so that the multiplier grows for ever, which anneals the likelihood's scale."""
    geco_acceleration: float = 1.0
    """Of the multiplier's way back while the constraint is met."""
    geco_warm_steps: int = 1_000
    """Updates before the multiplier moves (released code)."""
    initial_gain: float = 0.02
    """Of the initial values of all but the GRUs and the encoder's position embedding (released code)."""

    @property
    def minimum_steps(self):
        """Without layers nothing but refinements knows the image."""
        return 0 if self.num_layers else 1

    @property
    def slot_size(self):
        """D."""
        return self.latent_size

    def __post_init__(self):
        super().__post_init__()
        require(self.num_layers >= 0, "model.num_layers", "at least 0", self.num_layers)
        check_schedule(self.num_steps, self.curriculum, "model.curriculum", self.minimum_steps)
        for name in ("latent_size", "decoder_pixel_shuffle"):
            require(getattr(self, name) >= 1, f"model.{name}", "at least 1", getattr(self, name))
        for name in ("likelihood_scale", "initial_gain", "geco_acceleration"):
            require(getattr(self, name) > 0, f"model.{name}", "positive", getattr(self, name))
        require(
            self.geco_warm_steps >= 0, "model.geco_warm_steps", "at least 0", self.geco_warm_steps
        )
        floor = gaussian_floor(self.likelihood_scale, with_constant=False)
        require(
            self.geco_target is None or floor - FURTHEST_BELOW <= self.geco_target < math.inf,
            "model.geco_target",
            f"finite and within reach, at least {floor - FURTHEST_BELOW:.4g} (a perfect reconstruction at likelihood_scale = "
            f"{self.likelihood_scale:g} has {floor:.4g}), or none",
            self.geco_target,
        )

    def warnings(self):
        if self.geco_target is None:
            return []
        floor = gaussian_floor(self.likelihood_scale, with_constant=False)
        error = mean_squared_error_at(self.geco_target, self.likelihood_scale, with_constant=False)
        if error > EASY_ERROR:
            return [
                (
                    f"model.geco_target={self.geco_target:g} asks for a mean squared error of {error:.2g} only: a picture of one colour may do. "
                    f"A perfect reconstruction has {floor:.4g}."
                )
            ]
        if error >= 0.0:
            return []
        return [
            (
                f"model.geco_target={self.geco_target:g} is below the least negative log likelihood of a perfect reconstruction, "
                f"ln {self.likelihood_scale:g} = {floor:.4g}: the weight of the likelihood will grow for as long as the run lasts "
                "(the published Tetrominoes run is like that)."
            )
        ]


class Evidence(NamedTuple):
    """What one decode says about the image."""

    decoded: Any
    """[B, K, H, W, C + 1]: colour logits and mask logit of every slot."""
    nll: Any
    """[B], - log p(x | z) without 1/2 ln 2 pi, nats summed over pixels and channels."""
    kl: Any
    """[B, K, D] in nats; that of the layers summed over them."""
    gradient: Any
    """[B, K, 2 D], d (multiplier * nll + kl) / d lambda, stopped."""


@keras.saving.register_keras_serializable("tfobj")
class EfficientMORL(SceneModel):
    """EfficientMORL; see the module's docstring."""

    config_class = EfficientMORLConfig
    has_prior = True
    has_state = True

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.tokens = TokenEncoder(config, name="tokens")
        self.layer = StochasticLayer(config, name="layer")
        self.priors = LayerPriors(
            config.prior, config.num_layers, config.latent_size, config.initial_gain, name="priors"
        )
        self.decoder = make_decoder(config, name="decoder")
        self.refinement = LatentRefinement(
            config.latent_size, config.initial_gain, name="refinement"
        )
        self.geco = None
        if config.geco_target is not None:
            self.geco = ErrorMultiplier(
                config.geco_target * math.prod(config.image_size) * config.channels,
                acceleration=config.geco_acceleration,
                warm_steps=config.geco_warm_steps,
                name="geco",
            )
        self.build()

    def build(self, input_shape=None):
        config = self.config
        self.tokens.build((None, *config.image_size, config.channels))
        for part in (self.layer, self.priors, self.refinement, *filter(None, [self.geco])):
            part.build(None)
        self.decoder.build((None, config.latent_size))
        shape = (config.latent_size,)
        self.initial_loc = self.add_weight(
            name="initial_loc", shape=shape, initializer="zeros", autocast=False
        )
        self.initial_raw = self.add_weight(
            name="initial_raw", shape=shape, initializer="ones", autocast=False
        )
        self.built = True

    def stages(self):
        schedule = check_schedule(
            self.config.num_steps,
            self.config.curriculum,
            "model.curriculum",
            self.config.minimum_steps,
        )
        return tuple((start, Stage(num_steps)) for start, num_steps in schedule)

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        num_slots, num_steps, seed = self.resolve_call(image, num_slots, num_steps, seed)
        num_layers, operators = self.config.num_layers, self.decoder.operators()

        # Stage 1: the layers. Everything that follows is a function of `posterior`, so that it has a gradient.
        posteriors, attention = self.bottom_up(image, num_slots, seed)
        posterior = posteriors[-1]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(posterior)
            latents = draw(posterior, seed, "efficient_morl/posterior", 0)
            layer_kl, prior = self.priors.divergences(
                [*posteriors[:-1], posterior][:num_layers], seed
            )
            kl = sum(layer_kl, tf.zeros_like(latents))
        evidence = self.evidence(image, tape, posterior, latents, kl, operators, training)
        history, kept = (
            [(posterior, evidence)],
            isinstance(num_steps, int) and not execution.current().rematerialise,
        )

        # Stage 2: refinement.
        def refine(i, state, constants):
            prior, operators = constants
            posterior, memory, weighted_loss, *last = state
            posterior, memory = self.refinement(posterior, Evidence(*last).gradient, memory)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(posterior)
                latents = draw(posterior, seed, "efficient_morl/posterior", i + 1)
                kl = self.priors.divergence(posterior, *prior)
            evidence = self.evidence(image, tape, posterior, latents, kl, operators, training)
            history.append((posterior, evidence))
            return (
                posterior,
                memory,
                weighted_loss + self.loss_weight(i + 1, num_steps) * self.iteration_loss(evidence),
                *evidence,
            )

        memory = tf.zeros([batch_size(image) * num_slots, self.config.latent_size])
        state = (
            posterior,
            memory,
            self.loss_weight(0, num_steps) * self.iteration_loss(evidence),
            *evidence,
        )
        posterior, _, weighted_loss, *last = iterate(refine, state, num_steps, (prior, operators))
        return self.outputs(
            image,
            posterior,
            Evidence(*last),
            weighted_loss,
            posteriors,
            layer_kl,
            attention,
            history if kept else [],
        )

    def bottom_up(self, image, num_slots, seed):
        """Stage 1 (Algorithm 1, first loop); without layers, the learned initial normal is the only posterior.

        Returns:
          (posteriors, attention): lists of L tensors [B, K, 2 D] and [B, N, K].
        """
        size, batch = self.config.latent_size, batch_size(image)
        keys, values = self.tokens(image)
        initial = tf.concat([self.initial_loc.value, self.initial_raw.value], axis=0)
        posterior, posteriors, attention = (
            tf.broadcast_to(initial, [batch, num_slots, 2 * size]),
            [],
            [],
        )
        for layer in range(self.config.num_layers):
            latents = draw(posterior, seed, "efficient_morl/layer", layer)
            posterior, weights = self.layer(keys, values, latents, posterior)
            posteriors.append(posterior)
            attention.append(weights)
        return posteriors or [posterior], attention

    def evidence(self, image, tape, posterior, latents, kl, operators, training):
        """Decodes latents [B, K, D] and scores the image; `tape` knows how latents and KL came from `posterior`."""
        decoded, nll, _, latent_gradient = decode_and_score(
            self.render,
            lambda decoded: self.read(decoded, image),
            latents,
            operators,
            stopped=training,
        )
        # The sum over scenes is differentiated: the mean would scale with the batch what the layer norms' epsilon does not.
        gradient = tape.gradient(
            [latents, kl],
            posterior,
            [self.multiplier() * latent_gradient, tf.fill(tf.shape(kl), self.config.kl_weight)],
        )
        return Evidence(
            decoded, nll, kl, tf.ensure_shape(tf.stop_gradient(gradient), posterior.shape)
        )

    def read(self, decoded, image):
        """Returns (nll [B], (), d sum nll / d decoded) of decoder outputs [B, K, H, W, C + 1]."""
        with tf.GradientTape() as tape:
            tape.watch(decoded)
            nll = self.negative_log_likelihood(decoded, image)
        return nll, (), tape.gradient(nll, decoded)

    def negative_log_likelihood(self, decoded, image):
        """- log p(x | z) [B] in nats, without the 1/2 ln 2 pi of every pixel and channel, as the published GECO targets want it."""
        config, constant = self.config, HALF_LOG_2_PI * math.prod(image.shape[1:])
        if config.likelihood == "gaussian":
            log_prob = tf.reduce_sum(
                tfd.Normal(self.scene(decoded).recon, config.likelihood_scale).log_prob(image),
                axis=[1, 2, 3],
            )
        else:
            colours, mask_logits = split_decoded(decoded)
            log_prob = SpatialMixture(
                tf.sigmoid(colours),
                mask_logits,
                config.likelihood_scale,
                reduce=config.mixture_reduce,
            ).log_prob(image)
        return -(log_prob + constant)

    def render(self, latents, operators=None):
        """Latents [B, K, D] -> decoder outputs [B, K, H, W, C + 1]."""
        batch, num_slots = batch_and_slots(latents)
        return unfold_slots(
            self.decoder(fold_slots(latents), operators=operators), batch, num_slots
        )

    def scene(self, decoded):
        """Decoder outputs -> `DecodedScene`."""
        colours, mask_logits = split_decoded(decoded)
        colours, masks = tf.sigmoid(colours), tf.nn.softmax(mask_logits, axis=1)
        return DecodedScene(compose(masks, colours), masks, colours)

    def multiplier(self):
        """Weight of the NLL: 1, or what GECO says."""
        return 1.0 if self.geco is None else self.geco.multiplier()

    def iteration_loss(self, evidence):
        """L_i per scene, [B]: KL + multiplier * NLL; once GECO has begun, its value is KL - multiplier * (average slack)."""
        kl = self.config.kl_weight * tf.reduce_sum(evidence.kl, axis=[1, 2])
        weighted_nll = self.multiplier() * evidence.nll
        if self.geco is not None:
            slack = self.multiplier() * self.geco.constraint()
            weighted_nll += tf.stop_gradient(
                tf.where(self.geco.is_warm > 0.0, -slack - weighted_nll, 0.0)
            )
        return kl + weighted_nll

    def loss_weight(self, i, num_steps):
        """Weight of L_i in the loss, i = 0 ... num_steps (Eq. 8)."""
        if not isinstance(i, int) or not isinstance(num_steps, int):
            i, num_steps = tf.cast(i, tf.float32), tf.cast(num_steps, tf.float32)
        if self.config.refinement_weighting == "released":
            return (num_steps + 3 - i) / (num_steps + 1)
        return 1.0 if isinstance(i, int) and i == 0 else (num_steps + 1 - i) / (num_steps + 1)

    def outputs(
        self, image, posterior, evidence, weighted_loss, posteriors, layer_kl, attention, history
    ):
        """Collects `SceneOutputs`; `history` is a list of (lambda, `Evidence`), empty where the loop does not keep it."""
        scene, q = self.scene(evidence.decoded), gaussian(posterior)
        kl = tf.reduce_sum(evidence.kl, axis=[1, 2])
        terms = {
            "nll": evidence.nll,
            "kl": kl,
            "elbo": -(evidence.nll + kl),
            "weighted_loss": weighted_loss,
            "mse": tf.reduce_mean(tf.square(image - scene.recon), axis=[1, 2, 3]),
        }
        kept = {}
        if attention:
            kept["attention"] = tf.stack(attention, axis=1)  # [B, L, N, K]
        if history:
            scenes = [self.scene(e.decoded) for _, e in history]
            # t = 0 ... L - 1 are the layers, t = L - 1 + i the refinements.
            normals = [gaussian(p) for p in (*posteriors, *(p for p, _ in history[1:]))]
            kept.update(
                recon=tf.stack([s.recon for s in scenes], axis=1),
                masks=tf.stack([s.masks for s in scenes], axis=1),
                loss=tf.stack(
                    [e.nll + tf.reduce_sum(e.kl, axis=[1, 2]) for _, e in history], axis=1
                ),
                posterior_loc=tf.stack([n.loc for n in normals], axis=1),
                posterior_scale=tf.stack([n.scale for n in normals], axis=1),
            )
        layers = [tf.reduce_sum(kl, axis=[1, 2]) for kl in layer_kl]
        posterior = {
            "loc": q.loc,
            "scale": q.scale,
            "kl": evidence.kl,
            "layer_kl": tf.stack(layers, axis=1) if layers else tf.zeros([batch_size(image), 0]),
        }
        return SceneOutputs(
            *scene, slots=q.loc, posterior=posterior, loss_terms=terms, history=kept or None
        )

    def total_loss(self, terms, step):
        """Mean over scenes of Eq. 8, in nats; see `iteration_loss`."""
        loss = terms.pop("weighted_loss")
        if self.geco is not None:
            terms.update(
                geco_multiplier=self.geco.multiplier(), geco_constraint=self.geco.constraint()
            )
        return loss, terms

    def update_state(self, terms, statistics, step):
        """GECO follows the NLL of the last refinement."""
        if self.geco is not None:
            self.geco.update(terms["nll"], step)

    def decode(self, slots):
        """Renders latents [B, K, D] as a `DecodedScene`."""
        return self.scene(self.render(slots))

    def sample(self, num, seed, num_slots=None):
        """Draws `num` scenes: z^L from the prior, decoded; the lower layers of the reversed priors are auxiliary."""
        return self.decode(
            self.priors.sample(num, self.config.num_slots if num_slots is None else num_slots, seed)
        )
