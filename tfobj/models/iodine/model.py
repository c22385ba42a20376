"""IODINE: multi-object representation learning with iterative variational inference.

Greff et al. 2019, "Multi-Object Representation Learning with Iterative Variational Inference".

    p(z_k) = N(0, I)                                    one latent per slot
    p(x|z) = prod_pixels sum_k m_k f(x; mu_k, scale)    Eq. 1; m: softmax over k of mask logits
    q(z_k) = N(loc_k, softplus(raw_k))                  lambda_k = [loc_k, raw_k]

Inference refines lambda R times (Algorithm 1). Step r samples z ~ q (Eq. 2), decodes means and mask
logits, scores the image, and gives the results to the refinement network (Eq. 3), among them the
gradient of the negative ELBO L_r = NLL_r + KL_r:

    lambda_{r+1} = lambda_r + refine(inputs(x, z_r, lambda_r, d L_r / d lambda_r), memory_r)

R refinements need R + 1 decodes, and training minimises sum_r (r / R) L_r over them (Eq. 4). Slots
interact only through the softmax over masks and the likelihood, so the model is equivariant to
permutations of the slots, and only the sampling noise distinguishes them.

Cost: one backward pass through the decoder per refinement, besides that of training. Gradients with
respect to means and mask logits are closed forms of the likelihood; the gradient with respect to
lambda follows from that of z by the chain rule.

Axes: B batch, R refinement steps (index r), K slots, H W C image, D latent. The `paper` reading is
the default where the paper and the released code differ; the `release` preset selects the other.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfobj import execution, random
from tfobj.distributions.gaussian import diagonal_gaussian, isotropic_prior, negative_elbo_gradient
from tfobj.distributions.spatial_mixture import SpatialMixture
from tfobj.inference.graph_schedules import refinement_loss_weight
from tfobj.inference.refinement import RefinementNetwork
from tfobj.inference.refinement_inputs import RefinementInputs
from tfobj.inference.score import decode_and_score
from tfobj.models.base import DecodedScene, SceneModel
from tfobj.models.iodine.config import IodineConfig
from tfobj.models.iodine.decoders import make_decoder
from tfobj.nn import static
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


class ScoredDecode(NamedTuple):
    """A decode of sampled latents, and its score under the image: all that a refinement needs."""

    decoded: Any
    """[B, K, H, W, C + 1], means and mask logits of p(x | z)."""
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
        # Its name tells checkpoints apart: until 0.1.0 the mask logit was the first output channel.
        self.decoder = make_decoder(config, name="slot_decoder")
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
        weight_terms = self.decoder.weight_terms()
        posterior = self.first_posterior(batch_size(image), num_slots)
        history = []

        def refine(r, state, weight_terms):
            posterior, weighted_loss, *memory = state
            scored = self.score(image, posterior, seed, r, weight_terms, training)
            history.append(scored)
            weighted_loss += self.loss_weight(r, num_steps) * self.negative_elbo(scored)
            posterior, memory = self.update(image, posterior, scored, memory)
            return posterior, weighted_loss, *memory

        memory = self.refinement.initial_memory(batch_size(image) * num_slots)
        state = (posterior, tf.zeros([batch_size(image)]), *memory)
        posterior, weighted_loss, *_ = iterate(refine, state, num_steps, weight_terms)

        # Decode R: the last refinement is trained by the loss of what follows it.
        scored = self.score(image, posterior, seed, num_steps, weight_terms)
        weighted_loss += self.loss_weight(num_steps, num_steps) * self.negative_elbo(scored)
        history.append(scored)

        # Tensors made inside a loop of the graph do not exist outside it.
        in_loop = not static.is_static(num_steps) or execution.current().rematerialise
        known = None if in_loop else history
        return self.outputs(image, posterior, scored, weighted_loss, known)

    def first_posterior(self, batch, num_slots):
        """Returns lambda_0 [B, K, 2 D]: the same vector for all slots of all images."""
        size = self.config.latent_size
        if self.config.initial_posterior == "trained":
            vector = self.initial.value
        else:
            # The inverse softplus of the prior variance.
            raw = tf.math.log(tf.math.expm1(self.config.prior_variance))
            vector = tf.concat([tf.zeros([size]), tf.fill([size], raw)], axis=0)
        return tf.broadcast_to(vector, [batch, num_slots, 2 * size])

    def score(self, image, posterior, seed, r, weight_terms, training=False):
        """Samples z ~ q, decodes it, and scores the image: returns the `ScoredDecode` r."""
        config = self.config
        q = diagonal_gaussian(posterior)
        loc = q.distribution.loc  # [B, K, D]

        # Eq. 2: z ~ q, by the reparametrisation trick.
        noise = random.normal(seed, "iodine/posterior", [*batch_and_slots(loc), loc.shape[2]], r)
        latents = loc + q.distribution.scale * tf.ensure_shape(noise, loc.shape)

        # Eq. 1. Where the decoder affects the loss through the likelihood alone, one backward pass
        # yields the gradient with respect to z and that of training.
        decoded, nll, terms, latent_gradient = decode_and_score(
            self.render,
            lambda decoded: self.likelihood_and_gradient(decoded, image),
            latents,
            weight_terms,
            stopped=training and config.inputs.decoder_is_stopped(),
        )

        kl = q.kl_divergence(isotropic_prior(tf.shape(loc), config.prior_variance))
        posterior_gradient = negative_elbo_gradient(
            posterior, noise, config.likelihood_weight * latent_gradient, config.prior_variance
        )
        return ScoredDecode(decoded, terms, nll, kl, posterior_gradient)

    def likelihood_and_gradient(self, decoded, image):
        """Scores the image under decoder outputs.

        Args:
          decoded: [B, K, H, W, C + 1].
          image: [B, H, W, C].

        Returns:
          nll: [B], nats summed over pixels (Eq. 1).
          terms: `PixelTerms`.
          gradient: d nll / d decoded, of the shape of `decoded`.
        """
        terms = self.mixture(decoded).pixel_terms(image)
        nll = -tf.reduce_sum(terms.log_prob, axis=[1, 2, 3, 4])
        return nll, terms, join_decoded(terms.means_gradient, terms.logits_gradient)

    def spatial_inputs(self, image, decoded, terms):
        """Returns the image-shaped refinement inputs; see `RefinementInputs.spatial`."""
        return self.refinement_inputs.spatial(image, self.mixture(decoded), terms)

    def update(self, image, posterior, scored, memory):
        """Runs one refinement (Eq. 3): returns (new lambda [B, K, 2 D], new memory)."""
        shared, per_slot = self.spatial_inputs(image, scored.decoded, scored.terms)
        flat = self.refinement_inputs.flat(posterior, scored.posterior_gradient)
        delta, memory = self.refinement(shared, per_slot, flat, memory=tuple(memory))
        return posterior + tf.ensure_shape(delta, posterior.shape), memory

    def render(self, latents, weight_terms=None):
        """Decodes latents [B, K, D] to decoder outputs [B, K, H, W, C + 1]."""
        batch, num_slots = batch_and_slots(latents)
        rows = fold_slots(latents)
        if self.config.latent_constant:
            rows = tf.pad(rows, [[0, 0], [0, 1]], constant_values=5.0)
        return unfold_slots(self.decoder(rows, weight_terms=weight_terms), batch, num_slots)

    def mixture(self, decoded):
        """Returns p(x | z), a `SpatialMixture`, for decoder outputs [B, K, H, W, C + 1]."""
        means, mask_logits = split_decoded(decoded)
        return SpatialMixture(
            means, mask_logits, self.config.likelihood_scale, self.config.likelihood
        )

    def negative_elbo(self, scored):
        """Returns L_r [B]: beta nll + the sum over slots of kl (Algorithm 1)."""
        return self.config.likelihood_weight * scored.nll + tf.reduce_sum(scored.kl, axis=1)

    def loss_weight(self, r, num_steps):
        """Returns the weight of L_r in the training loss (Eq. 4); see `refinement_loss_weight`."""
        return refinement_loss_weight(
            r, num_steps, self.config.loss_weights, self.config.loss_weight_list
        )

    def outputs(self, image, posterior, scored, weighted_loss, history):
        """Returns the `SceneOutputs` of the last decode.

        Args:
          image: [B, H, W, C].
          posterior: [B, K, 2 D], the last lambda.
          scored: `ScoredDecode` of the last decode.
          weighted_loss: [B], the sum over decodes of the weighted L_r.
          history: the `ScoredDecode` of every decode, or None.
        """
        q = diagonal_gaussian(posterior).distribution
        mixture = self.mixture(scored.decoded)
        recon = mixture.mean()
        kl = tf.reduce_sum(scored.kl, axis=1)
        terms = {
            "nll": scored.nll,
            "kl": kl,
            "elbo": -(scored.nll + kl),
            "weighted_loss": weighted_loss,
            "mse": tf.reduce_mean(tf.square(image - recon), axis=[1, 2, 3]),
        }

        if history is not None:
            mixtures = [self.mixture(past.decoded) for past in history]
            history = {
                "recon": tf.stack([m.mean() for m in mixtures], axis=1),
                "masks": tf.stack([m.masks for m in mixtures], axis=1),
                "loss": tf.stack([self.negative_elbo(past) for past in history], axis=1),
            }

        return SceneOutputs(
            recon=recon,
            masks=mixture.masks,
            slot_recons=mixture.means,
            slots=q.loc,
            posterior={"loc": q.loc, "scale": q.scale, "kl": scored.kl},
            loss_terms=terms,
            history=history,
        )

    def total_loss(self, terms, step):
        """Returns the mean over scenes of sum_r w_r L_r in nats (Eq. 4), and all other terms."""
        return terms.pop("weighted_loss"), terms

    def decode(self, slots):
        """Renders latents [B, K, D] as a `DecodedScene`."""
        mixture = self.mixture(self.render(slots))
        return DecodedScene(mixture.mean(), mixture.masks, mixture.means)

    def sample(self, num, seed, num_slots=None):
        """Samples `num` scenes: z from the prior for every slot, decoded."""
        if num_slots is None:
            num_slots = self.config.num_slots
        shape = [num, num_slots, self.config.latent_size]
        latents = random.normal(seed, "iodine/prior", shape) * self.config.prior_variance**0.5
        return self.decode(latents)
