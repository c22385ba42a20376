"""Scenes with factored depths, locations and appearances (Anciukevicius et al. 2020).

The paper is "Object-Centric Image Generation with Factored Depths, Locations, and Appearances" by
Anciukevicius, Lampert & Henderson. Its generative model (Eqs. 1-6):

    y ~ N(0, I)                                  scene code (`scene_prior`)
    theta_j | y ~ Categorical over the pixels    centre of object j = 1 ... J
    (z_j, d~_j) | y, theta ~ N                   appearance; depth d_j = sigmoid(d~_j), smaller is
                                                 nearer
    (x_j, alpha_j) = decoder(z_j)                colour and alpha, complete, on an M x M canvas
    z_bg ~ N(0, I),  x_bg = background decoder(z_bg)
    x ~ N(composite of the placed objects by depth over x_bg, sigma^2)

Masks are not normalised over slots: objects are complete (amodal) and hide each other by depth. All
of this is learned without labels.

Inference: a U-Net gives a map of logits per object. The object encoder reads the whole image
("global") or a crop around each object ("attentive") and gives Gaussians of z_j and d~_j. Training
samples theta by Gumbel-Softmax and orders by depth softly, so gradients reach every position and
the depths; evaluation takes the modes, one position each, and true occlusion. Two phases follow
each other in one run:

    objects   squared error / (2 sigma^2) + beta_z KL(z) + beta_d KL(d~) + beta_bg KL(z_bg)
              + lambda || E[q(theta)] - uniform ||_1
    scene     the scene level, on the modes of the frozen object level (`scene_from_step`)

The L1 term replaces the KL of theta: positions shall be uniform over scenes and slots together,
while each may be sharp (`position_penalty`).

K = J + 1 slots, the last is the background; `slots` says what they hold. The paper's own code is
not public. Adam's bias correction counts the steps of the whole run in the scene phase, whose first
steps are larger for it.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions import compositing
from tfobj.distributions.gaussian import log_variance_gaussian
from tfobj.distributions.relaxed import relaxed_sample
from tfobj.models.base import DecodedScene, SceneModel, Stage
from tfobj.models.factored_scenes import decoders, encoders, objective, schedules
from tfobj.models.factored_scenes.config import FactoredScenesConfig
from tfobj.models.factored_scenes.placement import Positions, crop_around, place_canvases
from tfobj.models.factored_scenes.position_penalty import PositionPenalty
from tfobj.models.factored_scenes.scene_prior import ScenePrior
from tfobj.models.factored_scenes.slots import (
    FactoredSlots,
    with_background,
    with_unseen_object,
)
from tfobj.nn.batch_norm import BatchNorm
from tfobj.nn.layers import logit
from tfobj.nn.slots import batch_and_slots, batch_size, fold_slots, unfold_slots
from tfobj.structs import SceneOutputs

tfd = tfp.distributions

POSITION_AVERAGE = "position_average"
"""Name of the aggregated posterior of positions among the statistics of a batch."""


@keras.saving.register_keras_serializable("tfobj")
class FactoredScenes(SceneModel):
    """Scenes with factored depths, locations and appearances; see the module's docstring."""

    config_class = FactoredScenesConfig
    has_prior = True
    has_steps = False
    has_state = True
    slots_are_fixed = True
    slots_are_exchangeable = False
    background_slot = -1

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.slot_layout = FactoredSlots(config)
        self._make_encoders()
        self._make_decoders()
        self.position_penalty = PositionPenalty(
            config.image_size,
            config.position_penalty_cell,
            config.position_penalty == "moving",
            name="position_penalty",
        )

        self.scene_prior = None
        if config.scene_prior:
            self.scene_prior = ScenePrior(
                config.image_size,
                config.num_objects,
                config.appearance_size + 1,
                config.scene_code_size,
                config.scene_units,
                config.scene_filters,
                config.position_target_blur,
                name="scene_prior",
            )
        self.build()

    def _make_encoders(self):
        config = self.config
        num_latents = config.appearance_size + 1
        self.position_network = encoders.PositionNetwork(
            config.position_channels,
            config.num_objects,
            config.position_stride,
            name="position_network",
        )

        self.object_encoder = None
        self.crop_encoder = None
        if config.features != "attentive":
            self.object_encoder = encoders.ObjectEncoder(
                config.encoder_channels,
                config.num_objects,
                num_latents,
                config.norm,
                name="object_encoder",
            )
        if config.features != "global":
            self.crop_encoder = encoders.make_crop_encoder(
                config.crop_encoder_filters, num_latents, name="crop_encoder"
            )

        self.background_encoder = encoders.BackgroundEncoder(
            config.background_encoder_channels,
            config.background_encoder_hidden,
            config.background_size,
            config.norm,
            name="background_encoder",
        )

    def _make_decoders(self):
        config = self.config
        if config.decoder == "transposed":
            self.decoder = decoders.CanvasDecoder(
                config.canvas_size,
                config.channels,
                config.decoder_hidden,
                config.decoder_filters,
                name="decoder",
            )
        else:
            self.decoder = decoders.make_residual_canvas_decoder(
                config.canvas_size, config.channels, config.residual_decoder_filters, name="decoder"
            )

        background_class = decoders.BackgroundDecoder
        if config.background == "uniform":
            background_class = decoders.UniformBackground
        self.background_decoder = background_class(
            config.image_size, config.channels, name="background_decoder"
        )

    def build(self, input_shape=None):
        config = self.config
        image_shape = (None, *config.image_size, config.channels)
        canvas_shape = (None, config.canvas_size, config.canvas_size, config.channels)

        # Encoders.
        self.position_network.build(image_shape)
        if self.object_encoder is not None:
            self.object_encoder.build(image_shape)
        if self.crop_encoder is not None:
            self.crop_encoder.build(canvas_shape)
        self.background_encoder.build(image_shape)

        # Decoders, with their initial alpha and brightness.
        self.decoder.build((None, config.appearance_size))
        if config.decoder == "transposed":
            last = self.decoder.cnn.stages[-1]
        else:
            last = self.decoder.stages[-1]
        last.bias.assign([0.0] * config.channels + [logit(config.initial_alpha)])
        self.background_decoder.build((None, config.background_size))
        self.background_decoder.last.bias.assign(
            [logit(config.initial_background)] * config.channels
        )

        if self.scene_prior is not None:
            self.scene_prior.build()
        self.position_penalty.build()
        self.built = True

    def slot_parts(self):
        return self.slot_layout.parts()

    def own_stages(self):
        """Returns the object level from the start, the scene level from `scene_from_step` on."""
        objects = (0, Stage(1, "objects"))
        if self.scene_prior is None:
            return (objects,)
        return (objects, (self.config.scene_from_step, Stage(1, "scene")))

    def trained_variables(self, stage):
        if stage.part == "scene":
            return self.scene_prior.trainable_variables
        if self.scene_prior is None:
            return list(self.trainable_variables)
        frozen = {id(v) for v in self.scene_prior.trainable_variables}
        return [v for v in self.trainable_variables if id(v) not in frozen]

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        *_, seed = self.resolve_call(image, num_slots, num_steps, seed)
        return self.infer(image, seed, tf.constant(0, tf.int64), sampled=training)

    def forward_in_training(self, image, seed, step, stage):
        *_, seed = self.resolve_call(image, None, None, seed)
        return self.infer(image, seed, step, sampled=stage.part == "objects")

    def infer(self, image, seed, step, sampled):
        """Returns the `SceneOutputs` of images [B, H, W, C].

        Args:
          image: [B, H, W, C].
          seed: int32 [3] of `random.make_seed`.
          step: int64 scalar, updates finished; temperatures depend on it.
          sampled: sample from the posterior and composite softly, as the object level is trained;
            otherwise use the modes and true occlusion, and add the terms of the scene level.
        """
        # Eq. 13: positions, then appearances and depths given positions.
        positions = self.locate(image, seed, step, sampled)
        objects, background, statistics = self.encode(image, positions, sampled)
        latents = objects.loc
        background_latents = background.loc
        if sampled:
            latents += objects.scale * random.normal(
                seed, "factored_scenes/objects", [batch_size(image), *latents.shape[1:]]
            )
            background_latents += background.scale * random.normal(
                seed, "factored_scenes/background", [batch_size(image), self.config.background_size]
            )

        # Eqs. 7-12: render the objects in the frame and composite them by depth.
        appearances = latents[..., :-1]
        depths = tf.sigmoid(latents[..., -1])
        layers = self.render_objects(appearances, positions)
        colours = self._append_background(layers.colours, background_latents)
        masks = self.occlude(layers.alphas, depths, step, soft=sampled)
        recon = compositing.composite(masks, colours)

        # Terms of the losses of both phases.
        standard = tfd.Normal(0.0, 1.0)
        kl_objects = tfd.kl_divergence(objects, standard)
        kl_background = tfd.kl_divergence(background, standard)
        terms = objective.object_terms(
            self.config,
            self.position_penalty,
            image,
            recon,
            layers.alphas,
            positions.logits,
            kl_objects,
            kl_background,
        )
        if self.scene_prior is not None and not sampled:
            terms |= self._scene_terms(objects.loc, positions.centres, seed)
        if sampled:
            probabilities = self.position_penalty.probabilities(positions.logits)
            statistics |= {POSITION_AVERAGE: tf.reduce_mean(probabilities, axis=0)}

        return SceneOutputs(
            recon=recon,
            masks=masks,
            slot_recons=colours,
            slots=self.slot_layout.join(objects.loc, positions.centres, background.loc),
            posterior=self.slot_layout.posterior(objects, background, kl_objects, kl_background),
            loss_terms=terms,
            statistics=statistics,
            amodal_masks=with_background(layers.alphas, 1.0),
            depths=with_background(depths, 1.0),
            positions=self.slot_layout.middles(positions.centres),
        )

    def locate(self, image, seed, step, sampled):
        """Infers Q(theta | x).

        Args:
          image: [B, H, W, C].
          seed: int32 [3] of `random.make_seed`.
          step: int64 scalar, updates finished.
          sampled: whether to sample by Gumbel-Softmax, at the temperature of the step.

        Returns:
          `Positions`.
        """
        logits = self.position_network(image)
        batch = batch_size(image)
        num_objects = self.config.num_objects
        height, width = self.config.image_size
        shape = [batch, num_objects, height * width]
        flat = tf.reshape(logits, shape)

        maps = None
        if sampled:
            tau = schedules.position_temperature(self.config, step)
            relaxed = tfd.RelaxedOneHotCategorical(tau, logits=flat)
            noise = random.uniform(seed, "factored_scenes/positions", shape)
            maps = tf.reshape(relaxed_sample(relaxed, noise), [batch, num_objects, height, width])

        mode = tf.argmax(flat, axis=-1, output_type=tf.int32)
        return Positions(logits, maps, self._centres(mode))

    def _centres(self, index):
        """Returns row and column, int32 [B, J, 2], of pixel numbers [B, J]."""
        _, width = self.config.image_size
        return tf.stack([index // width, index % width], axis=-1)

    def encode(self, image, positions, training):
        """Infers Q(z, d~ | theta, x) and Q(z_bg | x).

        Args:
          image: [B, H, W, C].
          positions: `Positions`.
          training: whether batch norms use the moments of the batch.

        Returns:
          (`tfd.Normal` [B, J, D + 1], `tfd.Normal` [B, D_bg], statistics of batch norms).
        """
        parameters = 0.0
        statistics = {}
        if self.object_encoder is not None:
            parameters, statistics = self.object_encoder(image, training=training)
        if self.crop_encoder is not None:
            encoded = self.crop_encoder(fold_slots(self.crops(image, positions)))
            parameters += unfold_slots(encoded, batch_size(image), self.config.num_objects)

        background, more = self.background_encoder(image, training=training)
        return (
            log_variance_gaussian(parameters),
            log_variance_gaussian(background),
            statistics | more,
        )

    def crops(self, image, positions):
        """Returns the surroundings of the objects' positions, [B, J, M, M, C]."""
        return crop_around(image, positions, self.config.canvas_size, self.config.features)

    def render_objects(self, appearances, positions):
        """Decodes appearances [B, J, D] and places them in the frame: `Layers` (Eqs. 5, 7, 8)."""
        config = self.config
        batch, num_objects = batch_and_slots(appearances)
        pixels = self.decoder(fold_slots(appearances))
        if config.decoder == "residual":
            pixels = tf.sigmoid(pixels)
        canvas = unfold_slots(pixels, batch, num_objects)
        return place_canvases(canvas, positions, config.image_size, config.premultiplied)

    def _append_background(self, colours, background):
        """Appends the background of latents [B, D_bg] to [B, J, H, W, C]: [B, J + 1, H, W, C]."""
        return tf.concat([colours, self.background_decoder(background)[:, None]], axis=1)

    def occlude(self, alphas, depths, step, soft):
        """Returns the share of every object, and of the background last, in every pixel.

        Args:
          alphas: [B, J, H, W, 1].
          depths: [B, J] in (0, 1).
          step: int64 scalar, updates finished.
          soft: whether the order is soft, at the temperature of the step (Eqs. 9-12 relaxed).

        Returns:
          [B, J + 1, H, W, 1].
        """
        if soft:
            gamma = schedules.depth_temperature(self.config, step)
            return compositing.soft_weights(alphas, depths, gamma, self.config.ordering)
        return compositing.hard_weights(alphas, depths)

    def _scene_terms(self, latents, centres, seed):
        """Returns the terms of the scene phase, {name: [B]}, on the modes of the object level."""
        shape = [batch_size(latents), self.config.scene_code_size]
        noise = random.normal(seed, "factored_scenes/code", shape)
        _, width = self.config.image_size
        index = centres[..., 0] * width + centres[..., 1]

        latents = tf.stop_gradient(latents)
        positions = self.slot_layout.coordinates(centres)
        terms = self.scene_prior.terms(latents, positions, index, noise)
        return {f"scene_{name}": value for name, value in terms._asdict().items()}

    def total_loss(self, terms, step):
        """Returns the mean loss over scenes, in nats, of the phase that `step` falls into.

        The module's docstring has both losses. `nll` is under the sigma of the step.
        """
        return objective.phase_loss(self.config, terms, step)

    def update_state(self, terms, statistics, step):
        """Lets batch norms and the average of positions follow the batch.

        Nothing moves in the scene phase.
        """
        if POSITION_AVERAGE not in statistics:
            return
        for layer in self._flatten_layers():
            if isinstance(layer, BatchNorm):
                layer.update(statistics)
        self.position_penalty.update(statistics[POSITION_AVERAGE])

    def decode(self, slots):
        """Renders slots [B, K, S], the last one the background, as a `DecodedScene`.

        There may be any number of objects, at any position, also outside of the frame.
        """
        appearances, depths, centres, background = self.slot_layout.split(with_unseen_object(slots))
        layers = self.render_objects(appearances, Positions(None, None, centres))
        weights = compositing.hard_weights(layers.alphas, depths)[:, 1:]
        colours = self._append_background(layers.colours[:, 1:], background)
        return DecodedScene(compositing.composite(weights, colours), weights, colours)

    def sample(self, num, seed, num_slots=None):
        """Samples `num` scenes from the prior; pixels are the mean of the likelihood.

        Backgrounds are decoded from N(0, I) (paper). Where those of the data hardly differ, their
        posterior fills a corner of it, and samples also show the colours of the rest, which
        training never saw.
        """
        return self.decode(self.sample_slots(num, seed))

    def sample_slots(self, num, seed):
        """Samples slots [num, K, S] from the prior, with the scene level where there is one."""
        config = self.config
        height, width = config.image_size
        shape = [num, config.num_objects, config.appearance_size + 1]
        latents = random.normal(seed, "factored_scenes/prior_objects", shape)

        # Ancestral: the scene code, positions, then appearances and depths given positions.
        if self.scene_prior is None:
            uniform = random.uniform(seed, "factored_scenes/prior_positions", shape[:2])
            centres = self._centres(tf.cast(uniform * (height * width), tf.int32))
        else:
            code = random.normal(seed, "factored_scenes/prior_code", [num, config.scene_code_size])
            centres = self._centres(self.scene_prior.sample_positions(code, seed))
            prior = self.scene_prior.appearance(code, self.slot_layout.coordinates(centres))
            latents = prior.loc + prior.scale * latents

        shape = [num, config.background_size]
        background = random.normal(seed, "factored_scenes/prior_background", shape)
        return self.slot_layout.join(latents, centres, background)
