"""IODINE (Greff et al. 2019, "Multi-Object Representation Learning with Iterative Variational Inference").

    p(z_k) = N(0, I)                                          one latent per slot
    p(x|z) = prod_pixels sum_k m_k f(x; mu_k, scale)          mu, mask logits = decoder(z_k), m = softmax over k
    q(z_k) = N(loc_k, softplus(raw_k))                        lambda_k = [loc_k, raw_k]

Inference refines lambda R times. Step t draws z ~ q, decodes, scores the image, and feeds the refinement
network with what it saw, the gradient of the negative ELBO among it:

    lambda_{t+1} = lambda_t + refine(inputs(x, z_t, lambda_t, d L_t / d lambda_t), memory_t)

R refinements need R + 1 decodes; the loss is sum_t (t / R) L_t with L_t = NLL_t + KL_t of decode t. The slots
talk to each other only through the softmax over masks and the likelihood, so the model is equivariant to
their permutation; what tells them apart is the sampling noise.

Cost: one autodiff pass through the decoder per refinement, on top of the outer one. Gradients with respect to means
and mask logits are closed forms of the likelihood, those with respect to lambda a chain rule by hand.

Axes: B batch, R refinement steps, K slots, H W C image, D latent. The `paper` reading is the default where the
paper and the released code differ; the `release` preset selects the other.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf

from tfobj import execution, random
from tfobj.config import require
from tfobj.distributions.gaussian import diagonal_gaussian, isotropic_prior, negative_elbo_gradient
from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.inference.refinement import RefinementNetwork
from tfobj.inference.refinement_inputs import (
    FLAT,
    SPATIAL,
    RefinementInputs,
    RefinementInputsConfig,
)
from tfobj.inference.schedules import refinement_loss_weight
from tfobj.inference.score import decode_and_score
from tfobj.models.base import DecodedScene, SceneConfig, SceneModel
from tfobj.models.iodine.decoders import make_decoder
from tfobj.nn.iteration import iterate
from tfobj.nn.slots import (
    batch_and_slots,
    batch_size,
    fold_slots,
    join_decoded,
    split_decoded,
    unfold_slots,
)
from tfobj.structs import SceneOutputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class IodineConfig(SceneConfig):
    """IODINE. Defaults: the paper's Tetris model (Greff 2019, Table 8): 193,104 parameters."""

    image_size: tuple[int, int] = (35, 35)
    channels: int = 3
    num_slots: int = 4
    num_steps: int = 5
    """R, refinement steps."""
    latent_size: int = 32
    decoder: Literal["broadcast", "deconv"] = "broadcast"
    """"deconv" is the ablation of appendix C: an MLP to 8 x 8, then transposed convolutions."""
    decoder_channels: tuple[int, ...] = (32, 32, 32, 32)
    decoder_kernel: int = 5
    decoder_pixel_shuffle: int = 1
    """Above 1 (ours): the decoder runs at 1 / r of the resolution and its last layer yields r x r pixels per position."""
    refinement_channels: tuple[int, ...] = (32, 32, 32)
    refinement_kernel: int = 5
    refinement_mlp: tuple[int, ...] = (128,)
    refinement_mlp_linear_output: bool = False
    lstm_size: int = 0
    """Units of the refinement LSTM; 0 for none (Tetris)."""
    likelihood: Literal["normal", "logistic"] = "normal"
    likelihood_scale: float = 0.1
    """Standard deviation of the normal (0.1, paper) or scale of the logistic (0.03, released code), image in [0, 1]."""
    likelihood_weight: float = 1.0
    """beta: the price of a nat of the image against one of the KL; 1 in the paper, 10 where Zablotskaia et al. 2020 ran it on balls."""
    prior_variance: float = 1.0
    """1 in the paper; ln 2 in the released code, by what looks like an oversight."""
    initial_posterior: Literal["trained", "prior"] = "trained"
    loss_weights: Literal["linear", "constant", "list"] = "linear"
    loss_weight_list: tuple[float, ...] = ()
    latent_constant: bool = False
    """Appends the constant 5.0 to every latent (released code)."""
    inputs: RefinementInputsConfig = RefinementInputsConfig()

    @property
    def slot_size(self):
        """D."""
        return self.latent_size

    def __post_init__(self):
        super().__post_init__()
        require(self.latent_size >= 1, "model.latent_size", "positive", self.latent_size)
        require(
            self.likelihood_scale > 0, "model.likelihood_scale", "positive", self.likelihood_scale
        )
        require(
            0 < self.likelihood_weight < math.inf,
            "model.likelihood_weight",
            "positive",
            self.likelihood_weight,
        )
        require(self.prior_variance > 0, "model.prior_variance", "positive", self.prior_variance)
        require(
            self.inputs.enabled(SPATIAL), "model.inputs", "a set with an image-shaped input", ()
        )
        require(
            self.inputs.enabled(FLAT),
            "model.inputs",
            "a set with posterior or posterior_gradient",
            (),
        )


class Evidence(NamedTuple):
    """What one decode says about the image."""

    decoded: Any
    """[B, K, H, W, C + 1]: means and mask logits of p(x | z)."""
    terms: Any
    """`PixelTerms` of the image."""
    nll: Any
    """[B], - log p(x | z), nats summed over pixels."""
    kl: Any
    """[B, K], KL(q(z_k) || p(z_k)) in nats."""
    posterior_gradient: Any
    """[B, K, 2 D], d (beta nll + sum_k kl) / d lambda."""


@keras.saving.register_keras_serializable("tfobj")
class Iodine(SceneModel):
    """IODINE; see the module's docstring."""

    config_class = IodineConfig
    has_prior = True

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.decoder = make_decoder(config, name="decoder")
        self.refinement_inputs = RefinementInputs(
            config.inputs,
            (*config.image_size, config.channels),
            config.latent_size,
            name="refinement_inputs",
        )
        self.refinement = RefinementNetwork(
            config.refinement_channels,
            config.refinement_kernel,
            config.refinement_mlp,
            config.lstm_size,
            2 * config.latent_size,
            mlp_linear_output=config.refinement_mlp_linear_output,
            name="refinement",
        )
        self.build()

    def build(self, input_shape=None):
        config = self.config
        self.decoder.build((None, config.latent_size + int(config.latent_constant)))
        self.refinement_inputs.build()
        self.refinement.build(*self.refinement_inputs.num_channels())
        if config.initial_posterior == "trained":
            # TF1's default for a vector of size 2 D: uniform within sqrt(6 / (4 D)).
            limit = (6.0 / (4 * config.latent_size)) ** 0.5
            self.initial = self.add_weight(
                name="initial_posterior",
                shape=(2 * config.latent_size,),
                autocast=False,
                initializer=keras.initializers.RandomUniform(-limit, limit),
            )
        self.built = True

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        num_slots, num_steps, seed = self.resolve_call(image, num_slots, num_steps, seed)
        operators = self.decoder.operators()
        posterior = self.first_posterior(batch_size(image), num_slots)
        history, kept = [], isinstance(num_steps, int) and not execution.current().rematerialise

        def refine(t, state, operators):
            posterior, weighted_loss, *memory = state
            evidence = self.score(image, posterior, seed, t, operators, training)
            history.append(evidence)
            posterior, memory = self.update(image, posterior, evidence, memory)
            return (
                posterior,
                weighted_loss + self.loss_weight(t, num_steps) * self.negative_elbo(evidence),
                *memory,
            )

        memory = self.refinement.initial_memory(batch_size(image) * num_slots)
        state = (posterior, tf.zeros([batch_size(image)]), *memory)
        posterior, weighted_loss, *_ = iterate(refine, state, num_steps, operators)
        evidence = self.score(image, posterior, seed, num_steps, operators)
        weighted_loss += self.loss_weight(num_steps, num_steps) * self.negative_elbo(evidence)
        history.append(evidence)
        return self.outputs(image, posterior, evidence, weighted_loss, history if kept else None)

    def first_posterior(self, batch, num_slots):
        """Returns lambda before the first step, [B, K, 2 D]: one vector for all slots of all images."""
        size = self.config.latent_size
        if self.config.initial_posterior == "trained":
            vector = self.initial.value
        else:  # softplus(raw) = prior variance
            vector = tf.concat(
                [
                    tf.zeros([size]),
                    tf.fill([size], tf.math.log(tf.math.expm1(self.config.prior_variance))),
                ],
                axis=0,
            )
        return tf.broadcast_to(vector, [batch, num_slots, 2 * size])

    def score(self, image, posterior, seed, t, operators, training=False):
        """Draws z ~ q, decodes it and scores the image: the `Evidence` of decode t."""
        q = diagonal_gaussian(posterior)
        loc, scale = q.distribution.loc, q.distribution.scale  # [B, K, D]
        noise = random.normal(
            seed,
            "iodine/posterior",
            tf.unstack(tf.shape(loc)) if None in loc.shape else list(loc.shape),
            index=t,
        )
        decoded, nll, terms, latent_gradient = decode_and_score(
            self.render,
            lambda decoded: self.read(decoded, image),
            loc + scale * tf.ensure_shape(noise, loc.shape),
            operators,
            stopped=training and self.config.inputs.decoder_is_stopped(),
        )
        kl = q.kl_divergence(isotropic_prior(tf.shape(loc), self.config.prior_variance))
        posterior_gradient = negative_elbo_gradient(
            posterior,
            noise,
            self.config.likelihood_weight * latent_gradient,
            self.config.prior_variance,
        )
        return Evidence(decoded, terms, nll, kl, posterior_gradient)

    def read(self, decoded, image):
        """Returns (nll [B] in nats, `PixelTerms`, d nll / d decoded) of decoder outputs [B, K, H, W, C + 1]."""
        terms = self.mixture(decoded).pixel_terms(image)
        return (
            -tf.reduce_sum(terms.log_prob, axis=[1, 2, 3, 4]),
            terms,
            join_decoded(terms.means_gradient, terms.logits_gradient),
        )

    def spatial_inputs(self, image, decoded, terms):
        """Returns the image-shaped inputs of the refinement network; see `RefinementInputs.spatial`."""
        return self.refinement_inputs.spatial(image, self.mixture(decoded), terms)

    def update(self, image, posterior, evidence, memory):
        """One refinement: returns (new lambda [B, K, 2 D], new memory)."""
        shared, per_slot = self.spatial_inputs(image, evidence.decoded, evidence.terms)
        flat = self.refinement_inputs.flat(posterior, evidence.posterior_gradient)
        delta, memory = self.refinement(shared, per_slot, flat, memory=tuple(memory))
        return posterior + tf.ensure_shape(delta, posterior.shape), memory

    def render(self, latents, operators=None):
        """Latents [B, K, D] -> decoder outputs [B, K, H, W, C + 1]."""
        batch, num_slots = batch_and_slots(latents)
        flat = fold_slots(latents)
        if self.config.latent_constant:
            flat = tf.pad(flat, [[0, 0], [0, 1]], constant_values=5.0)
        return unfold_slots(self.decoder(flat, operators=operators), batch, num_slots)

    def mixture(self, decoded):
        """Returns p(x | z), a `SpatialMixture`, from decoder outputs."""
        means, mask_logits = split_decoded(decoded)
        return SpatialMixture(
            means, mask_logits, self.config.likelihood_scale, self.config.likelihood
        )

    def negative_elbo(self, evidence):
        """L_t per scene, [B]: beta nll + sum over slots of kl."""
        return self.config.likelihood_weight * evidence.nll + tf.reduce_sum(evidence.kl, axis=1)

    def loss_weight(self, t, num_steps):
        """Weight of L_t in the training loss; see `refinement_loss_weight`."""
        return refinement_loss_weight(
            t, num_steps, self.config.loss_weights, self.config.loss_weight_list
        )

    def outputs(self, image, posterior, evidence, weighted_loss, history):
        """Collects `SceneOutputs` from the last decode; `history` is a list of `Evidence` or None."""
        q = diagonal_gaussian(posterior)
        mixture, kl = self.mixture(evidence.decoded), tf.reduce_sum(evidence.kl, axis=1)
        recon = mixture.mean()
        terms = {
            "nll": evidence.nll,
            "kl": kl,
            "elbo": -(evidence.nll + kl),
            "weighted_loss": weighted_loss,
            "mse": tf.reduce_mean(tf.square(image - recon), axis=[1, 2, 3]),
        }
        if history is not None:
            mixtures = [self.mixture(h.decoded) for h in history]
            history = {
                "recon": tf.stack([m.mean() for m in mixtures], axis=1),
                "masks": tf.stack([m.masks for m in mixtures], axis=1),
                "loss": tf.stack([self.negative_elbo(h) for h in history], axis=1),
            }
        return SceneOutputs(
            recon=recon,
            masks=mixture.masks,
            slot_recons=mixture.means,
            slots=q.distribution.loc,
            posterior={"loc": q.distribution.loc, "scale": q.distribution.scale, "kl": evidence.kl},
            loss_terms=terms,
            history=history,
        )

    def total_loss(self, terms, step):
        """mean over scenes of sum_t w_t (NLL_t + KL_t), in nats (Greff 2019, Eq. 4)."""
        return terms.pop("weighted_loss"), terms

    def decode(self, slots):
        """Renders latents [B, K, D] as a `DecodedScene`."""
        mixture = self.mixture(self.render(slots))
        return DecodedScene(mixture.mean(), mixture.masks, mixture.means)

    def sample(self, num, seed, num_slots=None):
        """Draws `num` scenes from the prior: z ~ N(0, prior variance) for every slot, decoded."""
        shape = [
            num,
            self.config.num_slots if num_slots is None else num_slots,
            self.config.latent_size,
        ]
        latents = random.normal(seed, "iodine/prior", shape) * self.config.prior_variance**0.5
        return self.decode(latents)
