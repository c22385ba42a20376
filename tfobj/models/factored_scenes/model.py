"""Scenes with factored depths, locations and appearances (Anciukevicius, Lampert & Henderson 2020, "Object-Centric Image Generation
with Factored Depths, Locations, and Appearances").

    y ~ N(0, I)                                          scene code (`scene_prior`)
    theta_j | y ~ Categorical over the pixels            centre of object j = 1 ... J
    (z_j, d~_j) | y, theta ~ N                           appearance; depth d_j = sigmoid(d~_j), smaller is nearer
    (x_j, alpha_j) = decoder(z_j)                        colour and alpha, complete, on an M x M canvas
    z_bg ~ N(0, I),  x_bg = background decoder(z_bg)
    x ~ N(composite of the placed objects by depth over x_bg, sigma^2)

Masks are not normalised over slots: objects are complete (amodal) and hide each other by depth, all of it learned without labels.

Inference: a U-Net gives a map of logits per object; the object encoder reads the whole image ("global") or a crop around each object
("attentive") and gives Gaussians of z_j and d~_j. Training draws theta by Gumbel-Softmax and orders by depth softly, so gradients reach every
position and the depths; evaluation takes the modes, one position each, and true occlusion. Two phases in one run:

    objects   squared error / (2 sigma^2) + beta_z KL(z) + beta_d KL(d~) + beta_bg KL(z_bg) + lambda || E[q(theta)] - uniform ||_1
    scene     the scene level on the modes of the objects, which rest (`scene_from_step`)

The L1 term replaces the KL of theta: positions shall be uniform over scenes and slots together, each may be sharp.

K = J + 1 slots, the last is the background. A slot holds [z_j, d~_j, row, column], position in [-1, 1]; the background's begins with z_bg.
The paper's own code is not public. Its Adam has the bias correction of the whole run in the scene phase, whose first steps are larger for it.
"""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfobj import random
from tfobj.distributions import compositing
from tfobj.distributions.gaussian import isotropic_nll, log_variance_gaussian
from tfobj.distributions.relaxed import relaxed_sample
from tfobj.inference.schedules import stepped
from tfobj.models.base import DecodedScene, SceneModel, Stage
from tfobj.models.factored_scenes import networks
from tfobj.models.factored_scenes.config import FactoredScenesConfig
from tfobj.models.factored_scenes.position_penalty import PositionPenalty
from tfobj.models.factored_scenes.scene_prior import ScenePrior
from tfobj.nn.batch_norm import BatchNorm
from tfobj.nn.layers import logit
from tfobj.nn.placement import extract, extract_at, place, place_at
from tfobj.nn.slots import batch_and_slots, batch_size, fold_slots, unfold_slots
from tfobj.structs import SceneOutputs

tfd = tfp.distributions

OUTSIDE = 100.0
"""A position far from the frame [-1, 1]."""
POSITION_AVERAGE = "position_average"
"""Name of the aggregated posterior of positions among the statistics of a batch."""


class Positions(NamedTuple):
    """Where the objects of scenes are."""

    logits: Any
    """[B, J, H, W]."""
    maps: Any
    """[B, J, H, W], the relaxed draw; None where positions are modes."""
    centres: Any
    """int32 [B, J, 2], row and column of the mode."""


class Layers(NamedTuple):
    """Objects in the frame, before they are composited."""

    alphas: Any
    """[B, J, H, W, 1]."""
    colours: Any
    """[B, J, H, W, C]."""


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
        num_latents = config.appearance_size + 1
        self.position_network = networks.PositionNetwork(
            config.position_channels,
            config.num_objects,
            config.position_stride,
            name="position_network",
        )
        self.object_encoder = self.crop_encoder = None
        if config.features != "attentive":
            self.object_encoder = networks.ObjectEncoder(
                config.encoder_channels,
                config.num_objects,
                num_latents,
                config.norm,
                name="object_encoder",
            )
        if config.features != "global":
            self.crop_encoder = networks.make_crop_encoder(
                config.crop_encoder_filters, num_latents, name="crop_encoder"
            )
        self.background_encoder = networks.BackgroundEncoder(
            config.background_encoder_channels,
            config.background_encoder_hidden,
            config.background_size,
            config.norm,
            name="background_encoder",
        )
        if config.decoder == "transposed":
            self.decoder = networks.CanvasDecoder(
                config.canvas_size,
                config.channels,
                config.decoder_hidden,
                config.decoder_filters,
                name="decoder",
            )
        else:
            self.decoder = networks.make_residual_canvas_decoder(
                config.canvas_size, config.channels, config.residual_decoder_filters, name="decoder"
            )
        background_class = (
            networks.BackgroundDecoder
            if config.background == "convolutional"
            else networks.UniformBackground
        )
        self.background_decoder = background_class(
            config.image_size, config.channels, name="background_decoder"
        )
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
                num_latents,
                config.scene_code_size,
                config.scene_units,
                config.scene_filters,
                config.position_target_blur,
                name="scene_prior",
            )
        self.build()

    def build(self, input_shape=None):
        config = self.config
        image_shape, canvas_shape = (
            (None, *config.image_size, config.channels),
            (None, config.canvas_size, config.canvas_size, config.channels),
        )
        self.position_network.build(image_shape)
        for encoder, shape in (
            (self.object_encoder, image_shape),
            (self.crop_encoder, canvas_shape),
        ):
            if encoder is not None:
                encoder.build(shape)
        self.background_encoder.build(image_shape)
        self.decoder.build((None, config.appearance_size))
        last = (
            self.decoder.cnn.stages[-1]
            if config.decoder == "transposed"
            else self.decoder.stages[-1]
        )
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
        size = self.config.appearance_size
        return {
            "appearance": (0, size),
            "depth": (size, size + 1),
            "position": (size + 1, size + 3),
        }

    def stages(self):
        """The object level from the start, the scene level from `scene_from_step` on."""
        objects, scene = Stage(1, "objects"), Stage(1, "scene")
        return (
            ((0, objects), (self.config.scene_from_step, scene))
            if self.scene_prior is not None
            else ((0, objects),)
        )

    def trained_variables(self, stage):
        if stage.part == "scene":
            return self.scene_prior.trainable_variables
        resting = (
            set()
            if self.scene_prior is None
            else {id(v) for v in self.scene_prior.trainable_variables}
        )
        return [v for v in self.trainable_variables if id(v) not in resting]

    def call(self, image, *, num_slots=None, num_steps=None, seed=None, training=False):
        *_, seed = self.resolve_call(image, num_slots, num_steps, seed)
        return self.infer(image, seed, tf.constant(0, tf.int64), sampled=training)

    def forward_in_training(self, image, seed, step, stage):
        *_, seed = self.resolve_call(image, None, None, seed)
        return self.infer(image, seed, step, sampled=stage.part == "objects")

    def infer(self, image, seed, step, sampled):
        """Returns the `SceneOutputs` of images [B, H, W, C].

        Args:
          seed: of `random.make_seed`.
          step: int64 scalar, updates finished; temperatures depend on it.
          sampled: draw from the posterior and composite softly, as the object level is trained; else the modes, true occlusion, and the terms of
            the scene level.
        """
        positions = self.locate(image, seed, step, sampled)
        objects, background, statistics = self.encode(image, positions, sampled)
        latents, background_latents = objects.loc, background.loc
        if sampled:
            latents += objects.scale * random.normal(
                seed, "factored_scenes/objects", [batch_size(image), *latents.shape[1:]]
            )
            background_latents += background.scale * random.normal(
                seed, "factored_scenes/background", [batch_size(image), self.config.background_size]
            )
        appearances, depths = latents[..., :-1], tf.sigmoid(latents[..., -1])
        layers = self.draw_objects(appearances, positions)
        colours = tf.concat(
            [layers.colours, self.background_decoder(background_latents)[:, None]], axis=1
        )
        masks = self.occlude(layers.alphas, depths, step, soft=sampled)
        recon = compositing.composite(masks, colours)
        kl_objects, kl_background = (
            tfd.kl_divergence(q, tfd.Normal(0.0, 1.0)) for q in (objects, background)
        )
        terms = self._object_terms(
            image, recon, layers.alphas, positions.logits, kl_objects, kl_background
        )
        if self.scene_prior is not None and not sampled:
            terms |= self._scene_terms(objects.loc, positions.centres, seed)
        if sampled:
            statistics |= {
                POSITION_AVERAGE: tf.reduce_mean(
                    self.position_penalty.probabilities(positions.logits), axis=0
                )
            }
        return SceneOutputs(
            recon=recon,
            masks=masks,
            slot_recons=colours,
            slots=self.join_slots(objects.loc, positions.centres, background.loc),
            posterior=self._posterior(objects, background, kl_objects, kl_background),
            loss_terms=terms,
            statistics=statistics,
            amodal_masks=_with_last(layers.alphas, 1.0),
            depths=_with_last(depths, 1.0),
            positions=self._middles(positions.centres),
        )

    def locate(self, image, seed, step, sampled):
        """Q(theta | x): the `Positions` of the objects of images [B, H, W, C]."""
        logits = self.position_network(image)
        batch, num_objects, (height, width) = (
            batch_size(image),
            self.config.num_objects,
            self.config.image_size,
        )
        flat = tf.reshape(logits, [batch, num_objects, height * width])
        maps = None
        if sampled:
            relaxed = tfd.RelaxedOneHotCategorical(self.position_temperature(step), logits=flat)
            noise = random.uniform(
                seed, "factored_scenes/positions", [batch, num_objects, height * width]
            )
            maps = tf.reshape(relaxed_sample(relaxed, noise), [batch, num_objects, height, width])
        index = tf.argmax(flat, axis=-1, output_type=tf.int32)
        return Positions(logits, maps, tf.stack([index // width, index % width], axis=-1))

    def encode(self, image, positions, training):
        """Q(z, d~ | theta, x) [B, J, D + 1] and Q(z_bg | x) [B, D_bg] as `tfd.Normal`, and the statistics of batch norms."""
        parameters, statistics = 0.0, {}
        if self.object_encoder is not None:
            parameters, statistics = self.object_encoder(image, training=training)
        if self.crop_encoder is not None:
            crops = fold_slots(self.crops(image, positions))
            parameters += unfold_slots(
                self.crop_encoder(crops), batch_size(image), self.config.num_objects
            )
        background, more = self.background_encoder(image, training=training)
        return (
            log_variance_gaussian(parameters),
            log_variance_gaussian(background),
            statistics | more,
        )

    def crops(self, image, positions):
        """Returns the surroundings of the objects' positions, [B, J, M, M, C]."""
        repeated = tf.repeat(image[:, None], self.config.num_objects, axis=1)
        if positions.maps is None:
            return extract_at(repeated, positions.centres, self.config.canvas_size)
        # Beside global features crops are there for detail. Left to these gradients as well, positions go where both objects can be read.
        maps = (
            tf.stop_gradient(positions.maps) if self.config.features == "both" else positions.maps
        )
        return extract(repeated, maps, self.config.canvas_size)

    def draw_objects(self, appearances, positions):
        """Decodes appearances [B, J, D] and places them: `Layers`, in the frame."""
        batch, num_objects = batch_and_slots(appearances)
        pixels = self.decoder(fold_slots(appearances))
        if self.config.decoder == "residual":
            pixels = tf.sigmoid(pixels)
        canvas = unfold_slots(pixels, batch, num_objects)
        if self.config.premultiplied:
            canvas = tf.concat([canvas[..., :-1] * canvas[..., -1:], canvas[..., -1:]], axis=-1)
        if positions.maps is None:
            placed = place_at(canvas, positions.centres, self.config.image_size)
        else:
            placed = tf.clip_by_value(
                place(canvas, positions.maps), 0.0, 1.0
            )  # transforms leave +- 1e-7 beyond
        colours, alphas = placed[..., :-1], placed[..., -1:]
        if self.config.premultiplied:
            colours = tf.clip_by_value(colours / (alphas + 1e-6), 0.0, 1.0)
        return Layers(alphas, colours)

    def occlude(self, alphas, depths, step, soft):
        """Returns the share of every object, and of the background after them, in every pixel: [B, J + 1, H, W, 1]."""
        if soft:
            return compositing.soft_weights(
                alphas, depths, self.depth_temperature(step), self.config.ordering
            )
        return compositing.hard_weights(alphas, depths)

    def position_temperature(self, step):
        """Returns tau after `step` updates."""
        config, step = self.config, tf.cast(step, tf.float32)
        tau = config.position_temperature * tf.pow(
            2.0, step / config.position_temperature_doubling_steps
        )
        if config.first_position_temperature is not None:
            left = tf.maximum(0.0, 1.0 - step / config.position_anneal_steps)
            tau *= tf.pow(config.first_position_temperature / config.position_temperature, left)
        return tau

    def depth_temperature(self, step):
        """Returns gamma after `step` updates."""
        config = self.config
        if config.final_depth_temperature is None:
            return tf.constant(config.depth_temperature)
        share = tf.minimum(1.0, tf.cast(step, tf.float32) / config.depth_anneal_steps)
        return config.depth_temperature * tf.pow(
            config.final_depth_temperature / config.depth_temperature, share
        )

    def _object_terms(self, image, recon, alphas, logits, kl_objects, kl_background):
        squared_error = tf.reduce_sum(tf.square(image - recon), axis=[1, 2, 3])
        terms = {
            "squared_error": squared_error,
            "mse": squared_error / self.num_values(),
            "nll": isotropic_nll(
                squared_error,
                self.num_values(),
                self.config.later_scale or self.config.likelihood_scale,
            ),
            "kl_appearance": tf.reduce_sum(kl_objects[..., :-1], axis=[1, 2]),
            "kl_depth": tf.reduce_sum(kl_objects[..., -1], axis=1),
            "kl_background": tf.reduce_sum(kl_background, axis=1),
            "position_distance": self.position_penalty.distance(
                self.position_penalty.probabilities(logits)
            ),
            "alpha_entropy": tf.reduce_mean(binary_entropy(alphas), axis=[1, 2, 3, 4]),
            "alpha_area": tf.reduce_sum(alphas, axis=[1, 2, 3, 4]),
        }
        return terms | {"kl": terms["kl_appearance"] + terms["kl_depth"] + terms["kl_background"]}

    def _scene_terms(self, latents, centres, seed):
        height, width = self.config.image_size
        noise = random.normal(
            seed, "factored_scenes/code", [batch_size(latents), self.config.scene_code_size]
        )
        index = centres[..., 0] * width + centres[..., 1]
        latents = tf.stop_gradient(latents)
        terms = self.scene_prior.terms(latents, self._coordinates(centres), index, noise)
        return {f"scene_{name}": value for name, value in terms._asdict().items()}

    def total_loss(self, terms, step):
        """mean over scenes of the loss of the phase that `step` falls into, in nats; see the module's docstring. `nll` is under the sigma of the step."""
        config = self.config
        terms["nll"] = isotropic_nll(
            terms.pop("squared_error"), self.num_values(), self.likelihood_scale(step)
        )
        loss = (
            terms["nll"]
            + config.beta_appearance * terms["kl_appearance"]
            + config.beta_depth * terms["kl_depth"]
            + config.beta_background * terms["kl_background"]
            + config.position_penalty_weight * terms["position_distance"]
            + config.alpha_entropy_weight * terms["alpha_entropy"]
            + config.alpha_area_weight * terms["alpha_area"]
        )
        if "scene_kl" in terms:
            scene = (
                terms["scene_positions_nll"]
                + terms["scene_appearance_nll"]
                + config.scene_kl_weight * terms["scene_kl"]
            )
            loss = tf.where(step < config.scene_from_step, loss, scene)
        return loss, terms

    def likelihood_scale(self, step):
        """Returns sigma after `step` updates."""
        return stepped(
            step,
            self.config.likelihood_scale,
            self.config.later_scale,
            self.config.later_scale_from_step,
        )

    def update_state(self, terms, statistics, step):
        """Batch norms follow their moments, the average of positions that of the batch; nothing moves in the scene phase."""
        if POSITION_AVERAGE not in statistics:
            return
        for norm in (layer for layer in self._flatten_layers() if isinstance(layer, BatchNorm)):
            norm.update(statistics)
        self.position_penalty.update(statistics[POSITION_AVERAGE])

    def decode(self, slots):
        """Renders slots [B, K, S], the last one the background; any number of objects, of positions, also outside of the frame."""
        size, (height, width) = self.config.appearance_size, self.config.image_size
        # One object more, far outside of the frame: convolutions want at least one.
        unseen = tf.zeros_like(slots[:, :1]) + tf.constant(OUTSIDE)
        objects, background = tf.concat([unseen, slots[:, :-1]], axis=1), slots[:, -1]
        middle = [(height - 1) / 2, (width - 1) / 2]
        centres = tf.cast(tf.round((objects[..., size + 1 : size + 3] + 1.0) * middle), tf.int32)
        layers = self.draw_objects(objects[..., :size], Positions(None, None, centres))
        weights = compositing.hard_weights(layers.alphas, objects[..., size])[:, 1:]
        colours = tf.concat(
            [
                layers.colours[:, 1:],
                self.background_decoder(background[:, : self.config.background_size])[:, None],
            ],
            axis=1,
        )
        return DecodedScene(compositing.composite(weights, colours), weights, colours)

    def sample(self, num, seed, num_slots=None):
        """Draws `num` scenes from the prior, with the scene level where there is one; pixels are the mean of the likelihood."""
        return self.decode(self.sample_slots(num, seed))

    def sample_slots(self, num, seed):
        """Draws slots [num, K, S] from the prior."""
        config, (height, width) = self.config, self.config.image_size
        shape = [num, config.num_objects, config.appearance_size + 1]
        noise = random.normal(seed, "factored_scenes/prior_objects", shape)
        if self.scene_prior is None:
            index = tf.cast(
                random.uniform(seed, "factored_scenes/prior_positions", shape[:2])
                * (height * width),
                tf.int32,
            )
        else:
            code = random.normal(seed, "factored_scenes/prior_code", [num, config.scene_code_size])
            index = self.scene_prior.sample_positions(code, seed)
        centres = tf.stack([index // width, index % width], axis=-1)
        latents = noise
        if self.scene_prior is not None:
            prior = self.scene_prior.appearance(code, self._coordinates(centres))
            latents = prior.loc + prior.scale * noise
        background = random.normal(
            seed, "factored_scenes/prior_background", [num, config.background_size]
        )
        return self.join_slots(latents, centres, background)

    def join_slots(self, latents, centres, background):
        """Joins [B, J, D + 1], int32 [B, J, 2] and [B, D_bg] to slots [B, J + 1, S]."""
        objects = _padded(
            tf.concat([latents, self._coordinates(centres)], axis=-1), self.config.slot_size
        )
        return tf.concat([objects, _padded(background, self.config.slot_size)[:, None]], axis=1)

    def num_values(self):
        """Returns H W C."""
        return math.prod(self.config.image_size) * self.config.channels

    def _coordinates(self, centres):
        """Pixels int32 [B, J, 2] -> [-1, 1]: 2 (row, column) / (H - 1, W - 1) - 1."""
        last = np.maximum(np.array(self.config.image_size, np.float32) - 1.0, 1.0)
        return 2.0 * tf.cast(centres, tf.float32) / last - 1.0

    def _middles(self, centres):
        """Middle of each canvas in pixels, half a pixel before its position for even M; of the frame for the background: [B, J + 1, 2]."""
        half = (self.config.canvas_size - 1) / 2 - self.config.canvas_size // 2
        of_frame = (np.array(self.config.image_size, np.float32) - 1.0) / 2.0
        objects = tf.cast(centres, tf.float32) + half
        return tf.concat([objects, tf.zeros_like(objects[:, :1]) + of_frame], axis=1)

    def _posterior(self, objects, background, kl_objects, kl_background):
        """Gaussians of all slots, padded to one length: the first numbers of a slot are these latents."""
        size = max(self.config.appearance_size + 1, self.config.background_size)
        join = lambda of_objects, of_background, fill: tf.concat(
            [_padded(of_objects, size, fill), _padded(of_background, size, fill)[:, None]], axis=1
        )
        return {
            "loc": join(objects.loc, background.loc, 0.0),
            "scale": join(objects.scale, background.scale, 1.0),
            "kl": join(kl_objects, kl_background, 0.0),
        }


def binary_entropy(p):
    """Returns the entropy of yes or no with probability `p`, in nats; finite gradients at 0 and 1."""
    p = tf.clip_by_value(p, 1e-6, 1.0 - 1e-6)
    return -p * tf.math.log(p) - (1.0 - p) * tf.math.log(1.0 - p)


def _with_last(x, value):
    """Appends a slot of `value` to [B, J, ...]: [B, J + 1, ...]."""
    return tf.concat([x, tf.fill(tf.shape(x[:, :1]), value)], axis=1)


def _padded(x, size, value=0.0):
    """Pads the last axis to `size`."""
    return tf.pad(
        x, [[0, 0]] * (x.shape.rank - 1) + [[0, size - x.shape[-1]]], constant_values=value
    )
