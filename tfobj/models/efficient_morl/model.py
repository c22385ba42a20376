"""EfficientMORL (Emami et al. 2021): a hierarchical posterior, then a light refinement of it.

The paper is "Efficient Iterative Amortized Inference for Learning Symmetric and Disentangled
Multi-Object Representations".

    p(x|z)     normal around the mixed mean of the decoded slots, or a mixture     (`objective.py`)
    p(z^1:L)   reversed:  p(z^L) prod_l p(z^l | z^{l+1})                           (`priors.py`)
    q(z^1:L)   prod_l q(z^l | z^{l-1}, x), each layer an iteration of slot attention
               whose queries are samples                                           (`bottom_up.py`)

Inference has two stages. The bottom-up layers give lambda_0 = [loc, raw], the parameters of q(z^L).
A light network then refines them I times. It sees lambda and the gradient of the loss with respect
to it, never the image (`refinement.py`):

    lambda_r = lambda_{r-1} + refine(lambda_{r-1}, d L_{r-1} / d lambda_{r-1}, memory)

    L_r = KL_r + multiplier * NLL_r,   loss = L_0 + sum_{r >= 1} (I - r + 1) / (I + 1) L_r   (Eq. 8)

KL_0 sums over all layers. KL_r compares q(z; lambda_r) with p(z^1 | z^2) ("reversed++"). GECO
chooses the multiplier. I falls during training (3, then 1), and a trained model needs few
refinement steps or none.

The decoder reaches the loss through the NLL alone. One backward pass per decode therefore yields
both the gradient that the refinement network sees and that of the decoder's weights.

Axes: B batch, L layers, K slots, N tokens, H W C image, D latent. I is `num_steps`.
"""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfobj import execution
from tfobj.inference.geco import ErrorMultiplier
from tfobj.inference.schedules import check_schedule
from tfobj.inference.score import decode_and_score
from tfobj.models.base import SceneModel, Stage
from tfobj.models.efficient_morl.bottom_up import StochasticLayer, TokenEncoder
from tfobj.models.efficient_morl.config import EfficientMORLConfig
from tfobj.models.efficient_morl.decoders import make_decoder
from tfobj.models.efficient_morl.objective import (
    decoded_scene,
    likelihood_and_gradient,
    refinement_loss_weight,
)
from tfobj.models.efficient_morl.priors import LayerPriors, gaussian, sample_gaussian
from tfobj.models.efficient_morl.refinement import LatentRefinement
from tfobj.nn.iteration import iterate
from tfobj.nn.slots import batch_and_slots, batch_size, fold_slots, unfold_slots
from tfobj.structs import SceneOutputs


class ScoredDecode(NamedTuple):
    """One decode of the latents, with its likelihood, its KL and the gradient of both."""

    decoded: Any
    """[B, K, H, W, C + 1]: colour logits and mask logit of every slot."""
    nll: Any
    """[B], - log p(x | z) without 1/2 ln 2 pi, nats summed over pixels and channels."""
    kl: Any
    """[B, K, D] in nats; before refinement, summed over layers."""
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
        for part in (self.layer, self.priors, self.refinement):
            part.build(None)
        if self.geco is not None:
            self.geco.build(None)
        self.decoder.build((None, config.latent_size))

        # Parameters of q(z^0), shared by all slots.
        shape = (config.latent_size,)
        self.initial_loc = self.add_weight(
            name="initial_loc", shape=shape, initializer="zeros", autocast=False
        )
        self.initial_raw = self.add_weight(
            name="initial_raw", shape=shape, initializer="ones", autocast=False
        )
        self.built = True

    def own_stages(self):
        """Returns one stage of training per entry of the curriculum."""
        config = self.config
        schedule = check_schedule(
            config.num_steps, config.curriculum, "model.curriculum", config.minimum_steps
        )
        return tuple((start, Stage(num_steps)) for start, num_steps in schedule)

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        num_slots, num_steps, seed = self.resolve_call(image, num_slots, num_steps, seed)
        weight_terms = self.decoder.weight_terms()

        # Stage 1: the layers. The tape watches lambda_0, the last posterior, so everything below is
        # computed from that one tensor.
        posteriors, attention = self.bottom_up(image, num_slots, seed)
        posterior = posteriors[-1]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(posterior)
            latents = sample_gaussian(posterior, seed, "efficient_morl/posterior", 0)
            layers = [*posteriors[:-1], posterior][: self.config.num_layers]
            layer_kl, prior = self.priors.divergences(layers, seed)
            kl = sum(layer_kl, tf.zeros_like(latents))
        scored = self.score_latents(image, tape, posterior, latents, kl, weight_terms, training)
        history = [(posterior, scored)]

        # Stage 2: refinement (Algorithm 1, second loop).
        def refine(r, state, constants):
            prior, weight_terms = constants
            posterior, memory, weighted_loss, *last = state
            posterior, memory = self.refinement(posterior, ScoredDecode(*last).gradient, memory)

            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(posterior)
                latents = sample_gaussian(posterior, seed, "efficient_morl/posterior", r + 1)
                kl = self.priors.divergence(posterior, *prior)
            scored = self.score_latents(image, tape, posterior, latents, kl, weight_terms, training)
            history.append((posterior, scored))

            loss = self.loss_weight(r + 1, num_steps) * self.iteration_loss(scored)
            return (posterior, memory, weighted_loss + loss, *scored)

        memory = tf.zeros([batch_size(image) * num_slots, self.config.latent_size])
        weighted_loss = self.loss_weight(0, num_steps) * self.iteration_loss(scored)
        state = (posterior, memory, weighted_loss, *scored)
        posterior, _, weighted_loss, *last = iterate(
            refine, state, num_steps, (prior, weight_terms)
        )

        # In a rolled or rematerialised loop, tensors of single steps cannot leave it.
        if not isinstance(num_steps, int) or execution.current().rematerialise:
            history = []
        return self.outputs(
            image,
            posterior,
            ScoredDecode(*last),
            weighted_loss,
            posteriors,
            layer_kl,
            attention,
            history,
        )

    def bottom_up(self, image, num_slots, seed):
        """Infers the posteriors of all layers (Algorithm 1, first loop).

        Without layers, the learned initial normal is the only posterior.

        Args:
          image: [B, H, W, C].
          num_slots: K, a Python or tensor integer.
          seed: int32 [3] of `random.make_seed`.

        Returns:
          (posteriors, attention): lists of L tensors [B, K, 2 D] and [B, N, K].
        """
        size = self.config.latent_size
        keys, values = self.tokens(image)
        initial = tf.concat([self.initial_loc.value, self.initial_raw.value], axis=0)
        posterior = tf.broadcast_to(initial, [batch_size(image), num_slots, 2 * size])

        posteriors = []
        attention = []
        for layer in range(self.config.num_layers):
            latents = sample_gaussian(posterior, seed, "efficient_morl/layer", layer)
            posterior, weights = self.layer(keys, values, latents, posterior)
            posteriors.append(posterior)
            attention.append(weights)
        return posteriors or [posterior], attention

    def score_latents(self, image, tape, posterior, latents, kl, weight_terms, training):
        """Decodes latents and scores the image under them.

        Args:
          image: [B, H, W, C].
          tape: recorded how `latents` and `kl` were computed from `posterior`.
          posterior: lambda [B, K, 2 D].
          latents: [B, K, D], samples of the posterior.
          kl: [B, K, D].
          weight_terms: those of the decoder, see `decode_and_score`.
          training: whether one backward pass through the decoder must serve weights and latents.

        Returns:
          `ScoredDecode`.
        """
        decoded, nll, _, latent_gradient = decode_and_score(
            self.render,
            lambda decoded: likelihood_and_gradient(decoded, image, self.config),
            latents,
            weight_terms,
            stopped=training,
        )

        # The sum over scenes is differentiated. The gradient of the mean would shrink with the
        # batch, while the epsilon of the layer norms that it enters does not.
        gradient = tape.gradient(
            [latents, kl],
            posterior,
            [self.multiplier() * latent_gradient, tf.fill(tf.shape(kl), self.config.kl_weight)],
        )
        gradient = tf.ensure_shape(tf.stop_gradient(gradient), posterior.shape)
        return ScoredDecode(decoded, nll, kl, gradient)

    def render(self, latents, weight_terms=None):
        """Decodes latents [B, K, D] to decoder outputs [B, K, H, W, C + 1]."""
        batch, num_slots = batch_and_slots(latents)
        decoded = self.decoder(fold_slots(latents), weight_terms=weight_terms)
        return unfold_slots(decoded, batch, num_slots)

    def multiplier(self):
        """Returns the weight of the NLL: that of GECO, or 1."""
        return 1.0 if self.geco is None else self.geco.multiplier()

    def loss_weight(self, r, num_steps):
        """Returns the weight of L_r in the loss, r = 0 ... num_steps (Eq. 8)."""
        return refinement_loss_weight(r, num_steps, self.config.refinement_weighting)

    def iteration_loss(self, scored):
        """Returns L_r of every scene, [B], from the `ScoredDecode` of step r.

        The gradient is that of KL + multiplier * NLL. So is the value, until GECO has begun; from
        then on it is KL - multiplier * (average slack).
        """
        kl = self.config.kl_weight * tf.reduce_sum(scored.kl, axis=[1, 2])
        weighted_nll = self.multiplier() * scored.nll

        # The loss of appendix F.2 has the average of the constraint as its value, and the gradient
        # of the NLL of this step.
        if self.geco is not None:
            slack = self.multiplier() * self.geco.constraint()
            weighted_nll += tf.stop_gradient(
                tf.where(self.geco.is_warm > 0.0, -slack - weighted_nll, 0.0)
            )
        return kl + weighted_nll

    def outputs(
        self, image, posterior, scored, weighted_loss, posteriors, layer_kl, attention, history
    ):
        """Collects `SceneOutputs`.

        Args:
          image: [B, H, W, C].
          posterior: lambda [B, K, 2 D] after the last step.
          scored: its `ScoredDecode`.
          weighted_loss: [B], Eq. 8.
          posteriors, layer_kl, attention: lists of L tensors, see `bottom_up`.
          history: list of (lambda, `ScoredDecode`), one per step; empty where it is not kept.
        """
        scene = decoded_scene(scored.decoded)
        q = gaussian(posterior)
        kl = tf.reduce_sum(scored.kl, axis=[1, 2])
        terms = {
            "nll": scored.nll,
            "kl": kl,
            "elbo": -(scored.nll + kl),
            "weighted_loss": weighted_loss,
            "mse": tf.reduce_mean(tf.square(image - scene.recon), axis=[1, 2, 3]),
        }

        kept = {}
        if attention:
            kept["attention"] = tf.stack(attention, axis=1)  # [B, L, N, K]
        if history:
            kept.update(_stacked_history(posteriors, history))

        kl_of_layers = tf.zeros([batch_size(image), 0])
        if layer_kl:
            kl_of_layers = tf.stack([tf.reduce_sum(kl, axis=[1, 2]) for kl in layer_kl], axis=1)
        return SceneOutputs(
            *scene,
            slots=q.loc,
            posterior={"loc": q.loc, "scale": q.scale, "kl": scored.kl, "layer_kl": kl_of_layers},
            loss_terms=terms,
            history=kept or None,
        )

    def total_loss(self, terms, step):
        """Returns the mean over scenes of Eq. 8, in nats, and the terms; see `iteration_loss`."""
        loss = terms.pop("weighted_loss")
        if self.geco is not None:
            terms["geco_multiplier"] = self.geco.multiplier()
            terms["geco_constraint"] = self.geco.constraint()
        return loss, terms

    def update_state(self, terms, statistics, step):
        """Lets GECO follow the NLL of the last refinement step."""
        if self.geco is not None:
            self.geco.update(terms["nll"], step)

    def decode(self, slots):
        """Renders latents [B, K, D] as a `DecodedScene`."""
        return decoded_scene(self.render(slots))

    def sample(self, num, seed, num_slots=None):
        """Samples `num` scenes: z^L from the prior, decoded.

        The lower layers of the reversed priors are auxiliary.
        """
        if num_slots is None:
            num_slots = self.config.num_slots
        return self.decode(self.priors.sample(num, num_slots, seed))


def _stacked_history(posteriors, history):
    """Stacks what figures show of every step.

    Args:
      posteriors: list of L tensors [B, K, 2 D], those of the layers.
      history: list of I + 1 pairs (lambda, `ScoredDecode`).

    Returns:
      dict: decodes [B, I + 1, ...], and posteriors [B, L + I, K, D], those of the layers first.
    """
    scenes = [decoded_scene(scored.decoded) for _, scored in history]
    losses = [scored.nll + tf.reduce_sum(scored.kl, axis=[1, 2]) for _, scored in history]

    # The first entry of the history has the posterior of the last layer.
    refined = [posterior for posterior, _ in history[1:]]
    normals = [gaussian(parameters) for parameters in (*posteriors, *refined)]
    return {
        "recon": tf.stack([scene.recon for scene in scenes], axis=1),
        "masks": tf.stack([scene.masks for scene in scenes], axis=1),
        "loss": tf.stack(losses, axis=1),
        "posterior_loc": tf.stack([normal.loc for normal in normals], axis=1),
        "posterior_scale": tf.stack([normal.scale for normal in normals], axis=1),
    }
