"""The contract that every model keeps, and the step that they all share.

A model is a `keras.Model` built from a frozen config. It answers four questions:

    outputs = model(image, num_slots=None, num_steps=None, seed=None, training=False)   # SceneOutputs
    loss, terms = model.objective(outputs, step)                                        # what training minimises
    scene = model.decode(slots)                                                         # render edited latents
    image = model.sample(num, seed)                                                     # where there is a prior

(Keras owns the attribute `loss`, which is why the training loss is called `objective`.) Some have state that no gradient
trains, a constraint's multiplier or running moments: it is kept in weights and follows each update in `update_state`.
"""

import abc
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfobj import random
from tfobj.config import Config, require
from tfobj.structs import check_num_slots, check_num_steps, check_outputs


class SceneConfig(Config):
    """What the configurations of all models have in common; subclasses are dataclasses with these fields."""

    prefix = "model."

    image_size: tuple[int, int]
    channels: int
    num_slots: int
    num_steps: int

    minimum_slots = 2
    minimum_steps = 1
    is_video = False
    """Whether the model takes clips [B, T, H, W, C], and its outputs have the axis T."""

    def __post_init__(self):
        super().__post_init__()
        require(
            min(self.image_size) >= 1, "model.image_size", "two positive numbers", self.image_size
        )
        require(self.channels in (1, 3), "model.channels", "1 or 3", self.channels)
        check_num_slots(self.num_slots, self.minimum_slots)
        check_num_steps(self.num_steps, self.minimum_steps)

    def warnings(self):
        """Returns sentences about settings that are allowed but rarely meant; printed when a run starts."""
        return []


class DecodedScene(NamedTuple):
    """What `SceneModel.decode` renders; the same names and shapes as in `SceneOutputs`."""

    recon: Any
    masks: Any
    slot_recons: Any


class Stage(NamedTuple):
    """What is fixed over a stretch of training: each stage is traced by itself."""

    num_steps: int
    """Refinement steps."""
    part: str = "all"
    """Which weights are trained, by a name of the model's own; see `SceneModel.trained_variables`."""
    num_frames: int | None = None
    """Frames of a training clip; None for models of pictures."""


class Preset(NamedTuple):
    """One named set of hyperparameters for a model on a dataset."""

    description: str
    """What it is, where its numbers are from, what to expect and on which hardware."""
    model: dict
    """Changes to the model's config, which itself defaults to the paper's main table."""
    train: dict
    """Changes to `tfobj.training.experiment.TrainConfig`."""
    eval: dict = {}
    """Changes to `tfobj.training.experiment.EvalConfig`."""
    data: dict = {}
    """Changes to `tfobj.training.experiment.DataConfig`."""


class SceneModel(keras.Model, metaclass=abc.ABCMeta):
    """Base of all models; see the module's docstring for the contract.

    Subclasses set `config_class`, wire their layers in `__init__` after `super().__init__(config)`, build
    them in `build`, and end `__init__` with `self.build()`, so a model has its weights when it exists.

    Attributes:
      config: the frozen configuration.
      run_seed: seed of the noise that `fit` uses; the package's own loop passes seeds explicitly.
    """

    config_class = None
    has_prior = False
    """Whether `sample` exists."""
    slots_are_fixed = False
    """Whether K is fixed at construction."""
    slots_are_exchangeable = True
    """Whether nothing but noise tells slots apart, so that permuted noise permutes them."""
    has_state = False
    """Whether `update_state` does something."""
    has_steps = True
    """Whether `num_steps` means anything."""
    background_slot = None
    """Index of the slot that is always the background, or None if any may be."""

    def __init__(self, config, run_seed=0, **kwargs):
        # One name for every instance: checkpoints find weights by their path. No autocast: images stay
        # float32, and layers cast to the compute dtype.
        super().__init__(**{"name": type(self).__name__, "autocast": False, **kwargs})
        self.config, self.run_seed = config, run_seed

    @property
    def is_video(self):
        """Whether `call` takes clips [B, T, H, W, C], and outputs have the axis T."""
        return self.config.is_video

    def objective(self, outputs, step):
        """Returns (loss, terms): the scalar that training minimises, and named scalars.

        Args:
          outputs: `SceneOutputs` of `call` with `training=True`.
          step: int64 scalar tensor, number of finished updates (curricula are functions of it).
        """
        terms = {name: tf.reduce_mean(term) for name, term in outputs.loss_terms.items()}
        return self.total_loss(terms, step)

    @abc.abstractmethod
    def total_loss(self, terms, step):
        """Returns (loss, reported terms) from the means of `loss_terms` over scenes.

        Args:
          terms: dict of scalars, free to be changed.
          step: int64 scalar tensor, as in `objective`.
        """

    def stages(self):
        """Returns the stages of training, ((0, `Stage`), (step, `Stage`), ...): each from that many finished updates on."""
        return ((0, Stage(self.config.num_steps)),)

    def trained_variables(self, stage):
        """Returns the weights that a stage trains, in the order of `trainable_variables`; the others rest."""
        return self.trainable_variables

    def slot_parts(self):
        """Returns the named parts of a slot's vector, {name: (start, stop)}; what edits can change by itself."""
        return {"latent": (0, self.slot_size)}

    @property
    def slot_size(self):
        """D: length of a slot's vector."""
        return self.config.slot_size

    def update_state(self, terms, statistics, step):
        """Follows an update; only where `has_state`. In a replica context, the same on all replicas.

        Args:
          terms: those of `objective`, means over the global batch.
          statistics: `SceneOutputs.statistics`, means over replicas and micro-batches.
          step: int64 scalar tensor, updates finished before this one.
        """

    @abc.abstractmethod
    def decode(self, slots):
        """Renders slots [B, K, D] as a `DecodedScene`."""

    def sample(self, num, seed, num_slots=None):
        """Draws `num` scenes from the prior; a `DecodedScene`. Only where `has_prior`."""
        raise NotImplementedError(f"{type(self).__name__} has no prior to sample from.")

    def resolve_call(self, image, num_slots, num_steps, seed):
        """Fills the defaults of `call` and checks static facts; returns (num_slots, num_steps, seed)."""
        if self.slots_are_fixed and num_slots is not None and num_slots != self.config.num_slots:
            raise ValueError(
                f"`num_slots` of {type(self).__name__} is fixed at construction to {self.config.num_slots}. "
                f"Received: num_slots={num_slots}."
            )
        num_slots = self.config.num_slots if num_slots is None else num_slots
        num_steps = self.config.num_steps if num_steps is None else num_steps
        check_num_slots(num_slots, self.config.minimum_slots)
        check_num_steps(num_steps, self.config.minimum_steps)
        expected = (*self.config.image_size, self.config.channels)
        if tuple(image.shape[-3:]) != expected or len(image.shape) != 4 + self.is_video:
            lead = "B, T, " if self.is_video else "B, "
            raise ValueError(
                f"`image` must have shape [{lead}{', '.join(map(str, expected))}]. Received: {tuple(image.shape)}."
            )
        return num_slots, num_steps, random.make_seed() if seed is None else seed

    def forward_in_training(self, image, seed, step, stage):
        """Returns the `SceneOutputs` that an update learns from; models whose forward pass depends on the step override it."""
        return self(image, num_steps=stage.num_steps, seed=seed, training=True)

    def loss_and_gradients(self, batch, seed, step, loss_scale=1.0, stage=None):
        """One forward and backward pass; reads variables only, so it may be compiled for each device.

        Args:
          batch: `SceneBatch`.
          seed: int32 [3] of `random.make_seed`.
          step: int64 scalar.
          loss_scale: multiplies the gradients; 1 / replicas makes their sum the gradient of the global mean.
          stage: a `Stage`; None is the first one.

        Returns:
          (outputs, terms, gradients): `SceneOutputs`; dict of scalars with "loss"; one gradient for each of `trained_variables(stage)`.
        """
        stage = self.stages()[0][1] if stage is None else stage
        with tf.GradientTape() as tape:
            outputs = self.forward_in_training(batch["image"], seed, step, stage)
            check_outputs(outputs, batch["image"])
            loss, terms = self.objective(outputs, step)
            scaled = loss * loss_scale
        gradients = tape.gradient(
            scaled, [v.value for v in self.trained_variables(stage)], unconnected_gradients="zero"
        )
        return outputs, {"loss": loss, **terms}, gradients

    def train_step(self, data):
        """One update for `compile` + `fit` on one device; the package's own loop makes the same update.

        Only the first stage of training is made: `fit` traces once.
        """
        step = tf.cast(tf.convert_to_tensor(self.optimizer.iterations.value), tf.int64)
        outputs, terms, gradients = self.loss_and_gradients(
            data, random.make_seed(self.run_seed, step), step
        )
        self.optimizer.apply(gradients, self.trained_variables(self.stages()[0][1]))
        self.update_state(terms, outputs.statistics, step)
        return terms

    def test_step(self, data):
        """Loss terms of one batch for `evaluate` and validation in `fit`."""
        outputs = self(data["image"], seed=random.make_seed(self.run_seed), training=False)
        loss, terms = self.objective(outputs, tf.cast(self.optimizer.iterations.value, tf.int64))
        return {"loss": loss, **terms}

    def get_config(self):
        return {"config": self.config.to_dict(), "run_seed": self.run_seed}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(cls.config_class.from_dict(config["config"]), run_seed=config["run_seed"])

    def build_from_config(self, config):
        """Weights exist since construction; Keras' loading asks for this hook."""

    def count_trainable(self):
        """Returns the number of trainable parameters."""
        return sum(int(tf.size(v.value)) for v in self.trainable_variables)
