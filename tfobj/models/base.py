"""The contract of every model, and the training step that all models share.

A model is a `keras.Model` built from a frozen config. It answers four questions:

    outputs = model(image, num_slots=None, num_steps=None, seed=None, training=False)
    loss, terms = model.objective(outputs, step)    # the training loss, and its terms
    scene = model.decode(slots)                     # renders edited latents
    scene = model.sample(num, seed)                 # if the model has a prior

`outputs` are `SceneOutputs`. Keras owns the attribute `loss`, so the training loss is called
`objective`. Some models have state that is not trained by gradients, such as a constraint's
multiplier or running moments: it is stored in weights, and `update_state` follows each update.
"""

import abc
import contextlib
import threading
from typing import Any, NamedTuple

import tensorflow as tf

from tfobj import random
from tfobj.inference.schedules import stage_at
from tfobj.models import inputs
from tfobj.models.keras_model import KerasModel
from tfobj.models.settings import Preset as Preset  # once at home here
from tfobj.models.settings import SceneConfig as SceneConfig
from tfobj.structs import check_num_slots, check_num_steps, check_outputs

_early = threading.local()
"""`configs`: id of a model -> its configuration in the stage that this thread traces.

Replicas are traced by a thread each, which wait for each other within a stage.
"""


class DecodedScene(NamedTuple):
    """A scene rendered by `SceneModel.decode`; names and shapes as in `SceneOutputs`."""

    recon: Any
    masks: Any
    slot_recons: Any


class Stage(NamedTuple):
    """Static choices that hold over a stretch of training; every stage has a trace of its own."""

    num_steps: int
    """R, refinement steps."""
    part: str = "all"
    """The weights that are trained, by a name that the model defines in `trained_variables`."""
    num_frames: int | None = None
    """T, frames of a training clip; None for image models."""
    early: tuple = ()
    """Settings that differ from the model's own, ((name, text), ...); see `SceneConfig.early`."""


class SceneModel(KerasModel):
    """Base of all models; see the module's docstring for the contract.

    Subclasses set `config_class`, wire their layers in `__init__` after `super().__init__(config)`,
    build them in `build`, and end `__init__` with `self.build()`, so that every model has its
    weights as soon as it is constructed.

    Attributes:
      config: the frozen configuration; in a stage of training, the one with `Stage.early`.
      run_seed: seed of the noise in `fit`; the package's own training loop passes seeds explicitly.
    """

    config_class = None
    has_prior = False
    """Whether `sample` exists."""
    slots_are_fixed = False
    """Whether K is fixed when the model is constructed."""
    slots_are_exchangeable = True
    """Whether only noise distinguishes the slots, so that permuting the noise permutes them."""
    has_state = False
    """Whether `update_state` changes anything."""
    has_steps = True
    """Whether `num_steps` has an effect."""
    background_slot = None
    """Index of the slot that is always the background, or None if any may be."""

    def __init__(self, config, run_seed=0, **kwargs):
        # All instances have the same name, because checkpoints find weights by their path. Without
        # autocast, images stay float32, and layers cast to the compute dtype.
        super().__init__(**{"name": type(self).__name__, "autocast": False, **kwargs})
        self._config = config
        self.run_seed = run_seed

    @property
    def config(self):
        return getattr(_early, "configs", {}).get(id(self), self._config)

    @property
    def is_video(self):
        """Whether `call` takes video clips [B, T, H, W, C], and outputs have the axis T."""
        return self.config.is_video

    def objective(self, outputs, step):
        """Returns (loss, terms): the training loss, a scalar, and a dict of named scalars.

        Args:
          outputs: `SceneOutputs` of `call` with `training=True`.
          step: int64 scalar tensor, number of finished updates; curricula are functions of it.
        """
        terms = {name: tf.reduce_mean(term) for name, term in outputs.loss_terms.items()}
        return self.total_loss(terms, step)

    @abc.abstractmethod
    def total_loss(self, terms, step):
        """Returns (loss, reported terms) from the means of `loss_terms` over scenes.

        Args:
          terms: dict of scalars, which the method may change.
          step: int64 scalar tensor, as in `objective`.
        """

    def stages(self):
        """Returns the stages of training, ((0, `Stage`), (step, `Stage`), ...).

        A stage begins after `step` finished updates.
        """
        own = self.own_stages()
        starts = {start for start, _ in own}
        starts |= {updates for updates, _ in self.config.early_settings()}
        return tuple(
            (start, self._with_early(stage_at(own, start)[0], start)) for start in sorted(starts)
        )

    def own_stages(self):
        """Returns `stages` without those of `early`; models with a curriculum override it."""
        return ((0, Stage(self.config.num_steps)),)

    def _with_early(self, stage, step):
        changes = self.config.early_changes(step)
        num_steps = int(dict(changes).get("num_steps", stage.num_steps))
        return stage._replace(num_steps=num_steps, early=changes)

    @contextlib.contextmanager
    def in_stage(self, stage):
        """Within the block, in this thread, `config` is that of a stage of training."""
        if not stage.early:
            yield
            return
        before = getattr(_early, "configs", {})
        _early.configs = {**before, id(self): self._config.with_early(dict(stage.early))}
        try:
            yield
        finally:
            _early.configs = before

    def trained_variables(self, stage):
        """Returns the weights that a stage trains, in the order of `trainable_variables`."""
        return self.trainable_variables

    def slot_parts(self):
        """Returns the parts of a slot's vector that can be edited alone, {name: (start, stop)}."""
        return {"latent": (0, self.slot_size)}

    @property
    def slot_size(self):
        """D: length of a slot's vector."""
        return self.config.slot_size

    def update_state(self, terms, statistics, step):
        """Updates the untrained state after an optimizer step, if the model `has_state`.

        It is called in a replica context, with the same arguments on all replicas.

        Args:
          terms: the terms of `objective`, means over the global batch.
          statistics: `SceneOutputs.statistics`, means over replicas and micro-batches.
          step: int64 scalar tensor, updates finished before this one.
        """

    @abc.abstractmethod
    def decode(self, slots):
        """Renders slots [B, K, D] as a `DecodedScene`."""

    def sample(self, num, seed, num_slots=None):
        """Samples `num` scenes from the prior as a `DecodedScene`, if the model `has_prior`."""
        raise NotImplementedError(f"{type(self).__name__} has no prior to sample from.")

    def resolve_call(self, image, num_slots, num_steps, seed):
        """Returns (num_slots, num_steps, seed) of a call, with defaults for those that are None.

        Raises:
          ValueError: if a fixed number of slots is changed, or `image` has the wrong shape.
        """
        config = self.config
        if self.slots_are_fixed and num_slots is not None and num_slots != config.num_slots:
            raise ValueError(
                f"`num_slots` of {type(self).__name__} is fixed at construction to "
                f"{config.num_slots}. Received: num_slots={num_slots}."
            )

        if num_slots is None:
            num_slots = config.num_slots
        if num_steps is None:
            num_steps = config.num_steps
        if seed is None:
            seed = random.make_seed()
        check_num_slots(num_slots, config.minimum_slots)
        check_num_steps(num_steps, config.minimum_steps)
        inputs.check_shape(image, config)
        return num_slots, num_steps, seed

    def forward_in_training(self, image, seed, step, stage):
        """Returns the `SceneOutputs` of a training pass.

        Models whose forward pass depends on the training step override this method.
        """
        return self(image, num_steps=stage.num_steps, seed=seed, training=True)

    def loss_and_gradients(self, batch, seed, step, loss_scale=1.0, stage=None):
        """Runs one forward and backward pass.

        It reads variables but never writes them, so it may be compiled for each device.

        Args:
          batch: `SceneBatch`.
          seed: int32 [3] of `random.make_seed`.
          step: int64 scalar, number of finished updates.
          loss_scale: multiplies the gradients; with 1 / replicas, their sum over replicas is the
            gradient of the global mean.
          stage: a `Stage`; None for the first one.

        Returns:
          outputs: `SceneOutputs`.
          terms: dict of scalars, "loss" among them.
          gradients: one for each of `trained_variables(stage)`.
        """
        if stage is None:
            stage = self.stages()[0][1]

        # TensorFlow makes no zeros for a Keras variable, only for the tf.Variable that it wraps.
        weights = [v.value for v in self.trained_variables(stage)]
        with self.in_stage(stage):
            with tf.GradientTape() as tape:
                outputs = self.forward_in_training(batch["image"], seed, step, stage)
                check_outputs(outputs, batch["image"])
                loss, terms = self.objective(outputs, step)
                scaled = loss * loss_scale
            gradients = tape.gradient(scaled, weights, unconnected_gradients="zero")
        return outputs, {"loss": loss, **terms}, gradients

    def get_config(self):
        return {"config": self.config.to_dict(), "run_seed": self.run_seed}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(cls.config_class.from_dict(config["config"]), run_seed=config["run_seed"])

    def build_from_config(self, config):
        """Does nothing: weights exist from construction, but loading in Keras calls this hook."""

    def count_trainable(self):
        """Returns the number of trainable parameters."""
        return sum(int(tf.size(v.value)) for v in self.trainable_variables)
