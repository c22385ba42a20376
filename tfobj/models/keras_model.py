"""What Keras asks of a model (`compile`, `fit`, `evaluate`, `predict`, `export`), for all models.

    model.compile()                        # Adam on the model's own objective
    model.fit(images, epochs=3)            # an array, or a tf.data.Dataset of arrays or SceneBatch
    outputs = model.predict(images)        # `SceneOutputs` of arrays

`fit` makes the same update as the package's own loop, on one device and on the replicas of a
`MirroredStrategy`: losses are means over the global batch, gradients are summed over replicas
before they are clipped, and a scene draws the same noise on whichever replica it lands.
"""

import abc
import contextlib
import types

import keras
import numpy as np
import tensorflow as tf

from tfobj import random, replicas
from tfobj.errors import UserError, failed_assertion
from tfobj.models import inputs
from tfobj.nn.slots import batch_size
from tfobj.structs import IGNORE_LABEL, SceneOutputs

DEFAULT_LEARNING_RATE = 4e-4
"""Of Adam under `compile()`; Slot Attention, EfficientMORL and the video model publish it."""


class KerasModel(keras.Model, metaclass=abc.ABCMeta):
    """Base of `SceneModel`, which it needs for `call`, `loss_and_gradients` and `update_state`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # XLA compiles the whole step, which pays on accelerators and not on CPUs, whose
        # convolutions it slows down, and it cannot compile sums over replicas. Keras asks this
        # attribute where `jit_compile` is "auto".
        num_replicas = self.distribute_strategy.num_replicas_in_sync
        # A namespace, because Keras looks into other attributes for weights.
        self._origin = types.SimpleNamespace(strategy=tf.distribute.get_strategy())
        self.supports_jit = num_replicas == 1 and _has_accelerator()

    def __call__(self, image, *args, **kwargs):
        """Runs `call` on one batch of images or clips.

        Args:
          image: [B, (T,) H, W, C], uint8 or floats in [0, 1], as array or tensor, or a `SceneBatch`
            that holds it.

        Raises:
          UserError: images of another type, range or shape.
        """
        if isinstance(image, dict):
            image = _image_of(image)
        # Keras calls with placeholders that are no tensors where it looks for shapes.
        if not isinstance(image, keras.KerasTensor):
            image = inputs.unit_range(image)
        inputs.check_shape(image, self.config)
        return super().__call__(image, *args, **kwargs)

    def compile(self, optimizer=None, loss=None, *args, **kwargs):
        """Configures the model for `fit` and `evaluate`; arguments as in `keras.Model.compile`.

        Args:
          optimizer: name or Keras optimizer; None is Adam with a rate of 4e-4.
          loss: must be None, since a model is trained on its own objective.
          *args, **kwargs: metrics and the rest. Metrics compare true masks with predicted ones, for
            example `tfobj.metrics.ForegroundARI()`, and need batches with masks.

        Raises:
          UserError: a loss, or an option that Keras cannot combine with several replicas.
        """
        if loss is not None:
            raise UserError(
                f"`loss` must be None: {type(self).__name__} is trained on its own objective. "
                f"Received: loss={loss!r}."
            )
        self._check_scope()
        num_replicas = self.distribute_strategy.num_replicas_in_sync
        for name, only in (("jit_compile", False), ("steps_per_execution", 1)):
            value = kwargs.get(name, "auto")
            if num_replicas > 1 and value not in ("auto", only):
                raise UserError(
                    f"`{name}` must be {only} in `compile` under {num_replicas} replicas, where "
                    f"Keras supports nothing else. Received: {name}={value}. "
                    "launch/train.py combines them."
                )

        with self.distribute_strategy.scope():
            if optimizer is None:
                optimizer = keras.optimizers.Adam(DEFAULT_LEARNING_RATE)
            super().compile(optimizer, None, *args, **kwargs)
            # Keras locks the state of a model that is built. A namespace hides these means from it;
            # they are no weights, and start anew with every epoch.
            self._epoch = types.SimpleNamespace(terms=_TermMeans(name="terms"))

        # `train_step` hands over sums over replicas, which Keras would add up once more.
        self.optimizer._all_reduce_sum_gradients = lambda pairs: pairs

    def compile_from_config(self, config):
        """Compiles a model that was loaded with its optimizer's state; Keras calls it."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self):
        """The metrics that Keras resets at each epoch and reports at its end."""
        if not self.compiled:
            return super().metrics
        return [*super().metrics, self._epoch.terms]

    def fit(self, x=None, *args, **kwargs):
        """Trains the model; arguments as in `keras.Model.fit`.

        Args:
          x: images or clips as for calls, a `SceneBatch` of arrays, or a dataset of either or of
            (images, masks).
          *args, **kwargs: as in Keras, `y` being true masks, which only metrics look at.

        Returns:
          The `keras.callbacks.History`: means over the epoch of "loss" and the model's terms. Only
          the first of the model's `stages` is trained.
        """
        if isinstance(self.distribute_strategy, _WITHOUT_FIT):
            raise UserError(
                f"`fit` cannot train under {type(self.distribute_strategy).__name__}. "
                "Use launch/train.py, whose loop can."
            )
        self._check_scope()
        with self._refusals_explained(x):
            return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        """Returns the means of the loss and its terms over scenes; arguments as in `fit`."""
        with self._refusals_explained(x):
            return super().evaluate(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Returns `SceneOutputs` of arrays for all scenes of `x`; arguments as in `keras.Model`.

        All scenes draw the same noise, so the results of a scene do not depend on the others.
        """
        with self._refusals_explained(x):
            return _scene_outputs(super().predict(x, *args, **kwargs))

    def train_on_batch(self, x, *args, **kwargs):
        """Makes one update; arguments and result as in `keras.Model.train_on_batch`."""
        with self._refusals_explained(x):
            return super().train_on_batch(x, *args, **kwargs)

    def test_on_batch(self, x, *args, **kwargs):
        """Evaluates one batch; arguments and result as in `keras.Model.test_on_batch`."""
        with self._refusals_explained(x):
            return super().test_on_batch(x, *args, **kwargs)

    def predict_on_batch(self, x):
        """Returns `SceneOutputs` of arrays for one batch."""
        with self._refusals_explained(x):
            return _scene_outputs(super().predict_on_batch(x))

    def train_step(self, data):
        """Makes one update on a replica's share of the batch; returns the means of the epoch."""
        batch = _scene_batch(data)
        share = replicas.share_of(batch_size(batch["image"]))
        batch = _without_empty_share(batch)
        step = self._finished_updates()
        seed = random.make_seed(self.run_seed, self._finished_batches(), share.first_scene)

        outputs, terms, gradients = self.loss_and_gradients(
            batch, seed, step, loss_scale=share.weight
        )
        variables = self.trained_variables(self.stages()[0][1])
        self.optimizer.apply(replicas.sum_over(gradients), variables)
        if self.has_state:
            means = replicas.mean_over((terms, outputs.statistics), share.weight)
            self.update_state(*means, step)
        return self._reported(batch, outputs, terms, share)

    def test_step(self, data):
        """Returns the means of the loss and its terms so far, for `evaluate`."""
        batch = _scene_batch(data)
        share = replicas.share_of(batch_size(batch["image"]))
        batch = _without_empty_share(batch)
        seed = random.make_seed(self.run_seed, 0, share.first_scene)
        outputs = self(batch["image"], seed=seed, training=False)
        loss, terms = self.objective(outputs, self._finished_updates())
        return self._reported(batch, outputs, {"loss": loss, **terms}, share)

    def predict_step(self, data):
        """Returns what `predict` joins over batches: a dict of tensors [B, ...]."""
        image = _scene_batch(data)["image"]
        num_scenes = batch_size(image)
        filled = _without_empty_share({"image": image})["image"]

        # Whatever the batches and replicas, a scene gets one answer.
        with random.shared_by_scenes():
            outputs = self(filled, seed=random.make_seed(self.run_seed), training=False)
        outputs = _as_dict(outputs)
        return {name: value[:num_scenes] for name, value in outputs.items()}

    def export(self, filepath, format="tf_saved_model", verbose=True):
        """Writes a SavedModel with the endpoint `serve`: images to a dict of their `SceneOutputs`.

        Images are float32 [B, (T,) H, W, C] in [0, 1] of the model's size, B (and T) free.
        `serving.export.export_model` writes one that also checks its inputs, takes pictures of any
        size, and has endpoints to encode, decode and sample.

        Args:
          filepath: folder of the SavedModel.
          format: "tf_saved_model".
          verbose: whether to print a line about the result.
        """
        if format != "tf_saved_model":
            raise UserError(f"`format` must be 'tf_saved_model'. Received: format={format!r}.")
        free = [None] * (1 + self.config.is_video)
        shape = [*free, *self.config.image_size, self.config.channels]

        archive = keras.export.ExportArchive()
        archive.track(self)
        signature = [tf.TensorSpec(shape, tf.float32, "image")]
        archive.add_endpoint("serve", self.predict_step, signature)
        archive.write_out(filepath, verbose=verbose)

    def _check_scope(self):
        """Raises a `UserError` under a strategy that does not hold the model's weights."""
        current = tf.distribute.get_strategy()
        if tf.distribute.has_strategy() and current is not self._origin.strategy:
            raise UserError(
                "The model must be built in the scope of the strategy that trains it. Received: "
                f"{type(current).__name__}, entered after the model was built."
            )

    @contextlib.contextmanager
    def _refusals_explained(self, x):
        """Raises a `UserError` for batches `x` that cannot be used, found here or in the graph."""
        if x is None:
            raise UserError(
                "`x` must be images, a SceneBatch or a dataset of them. Received: None."
            )
        image = x.get("image") if isinstance(x, dict) else x
        # In the graph, XLA would drop the check of the values, and sizes would be unknown.
        if isinstance(image, np.ndarray):
            inputs.check_values(image)
            inputs.check_shape(image, self.config)

        try:
            yield
        except tf.errors.InvalidArgumentError as e:
            message = failed_assertion(e)
            if message is None:
                raise
            raise UserError(message) from e

    def _finished_updates(self):
        # A tensor: Keras' variable would be read after the update.
        return tf.cast(keras.ops.convert_to_tensor(self.optimizer.iterations), tf.int64)

    def _finished_batches(self):
        """Returns the number of batches, of which several make an update that accumulates them."""
        return tf.cast(keras.ops.convert_to_tensor(self.optimizer._iterations), tf.int64)

    def _reported(self, batch, outputs, terms, share):
        """Adds the terms of a share to the means over the epoch, and returns these."""
        num_scenes = tf.cast(batch_size(batch["image"]), tf.float32)
        if replicas.count() > 1:
            # A share that was empty counts nothing.
            num_scenes *= tf.cast(share.weight > 0.0, tf.float32)
        others = dict(terms)
        self._loss_tracker.update_state(others.pop("loss"), sample_weight=num_scenes)
        self._epoch.terms.update_state(others, num_scenes)
        if "mask" in batch:
            return self.compute_metrics(batch["image"], batch["mask"], outputs.masks)
        if self._compile_metrics is not None:
            raise UserError(
                "`metrics` need true masks: hand over (images, masks), or a SceneBatch with "
                "'mask'. Received: images alone."
            )
        return self.get_metrics_result()


_WITHOUT_FIT = (tf.distribute.MultiWorkerMirroredStrategy, tf.distribute.TPUStrategy)
"""Strategies under which Keras 3 cannot run a `train_step` that sums over replicas itself."""


class _TermMeans(keras.metrics.Metric):
    """Means of named terms over the scenes of an epoch.

    Which terms there are is known when a step is traced, and variables must exist before; so there
    is room for more than any model has.
    """

    room = 64

    def __init__(self, name):
        super().__init__(name=name)
        self._names = []
        self._latest = ()
        self._sums = self.add_variable((self.room,), initializer="zeros", name="sums")
        self._weights = self.add_variable((self.room,), initializer="zeros", name="weights")

    def update_state(self, terms, weight):
        """Adds scalars by name, all of one weight."""
        self._latest = tuple(terms)
        self._names += [name for name in terms if name not in self._names]
        if not terms:
            return

        places = [[self._names.index(name)] for name in terms]
        values = tf.stack([tf.cast(value, tf.float32) for value in terms.values()])
        scatter = lambda x: tf.scatter_nd(places, x, [self.room])
        # A share without scenes has no mean; its values are zero times anything.
        values = tf.where(weight > 0.0, values * weight, 0.0)
        self._sums.assign_add(scatter(values))
        self._weights.assign_add(scatter(tf.fill([len(places)], weight)))

    def result(self):
        """Returns {name: mean}: in a graph of the terms added last, eagerly of all that were."""
        means = tf.math.divide_no_nan(self._sums.value, self._weights.value)
        names = self._latest
        if tf.executing_eagerly():
            weights = np.asarray(self._weights)
            names = [name for i, name in enumerate(self._names) if weights[i] > 0]
        return {name: means[self._names.index(name)] for name in names}


def _has_accelerator():
    """Returns whether TensorFlow sees a GPU or TPU; does not start its runtime."""
    return any(tf.config.list_physical_devices(kind) for kind in ("GPU", "TPU"))


def _scene_batch(data):
    """Returns what Keras hands to a step as a `SceneBatch` of tensors.

    Args:
      data: images, (images,), (images, masks), or a `SceneBatch` in place of the images.
    """
    x, masks, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise UserError("`sample_weight` must be None: every scene counts once. Received: weights.")
    if isinstance(x, list | tuple) and len(x) == 1:
        x = x[0]
    batch = dict(x) if isinstance(x, dict) else {"image": x}
    if masks is not None:
        batch["mask"] = masks

    image = inputs.unit_range(_image_of(batch))
    if not tf.executing_eagerly():
        image = inputs.check_range(image)
    return {**batch, "image": image}


def _image_of(batch):
    """Returns the images of a `SceneBatch`."""
    if "image" not in batch:
        names = ", ".join(map(repr, sorted(batch)))
        raise UserError(f"A batch must hold 'image'. Received: a dict of {names}.")
    return batch["image"]


def _without_empty_share(batch):
    """Returns a batch that holds at least one scene: a black one where a replica has none.

    Means over no scene would be NaN, and so would be their product with a weight of zero.
    """
    if replicas.count() == 1 or batch["image"].shape[0]:
        return batch

    missing = tf.cast(batch_size(batch["image"]) == 0, tf.int32)
    filled = {}
    for name, value in batch.items():
        shape = tf.concat([[missing], tf.shape(value)[1:]], axis=0)
        # No metric counts the scene.
        filling = IGNORE_LABEL if name == "mask" else 0
        filling = tf.fill(shape, tf.cast(filling, value.dtype))
        filled[name] = tf.ensure_shape(tf.concat([value, filling], axis=0), value.shape)
    return filled


def _as_dict(outputs):
    """Returns `SceneOutputs` as a flat dict of those tensors [B, ...] that the model has."""
    fields = {name: getattr(outputs, name) for name in ("recon", "masks", "slot_recons", "slots")}
    fields |= outputs.extents()
    for name, value in (outputs.posterior or {}).items():
        fields["posterior/" + name] = value
    for name, value in outputs.loss_terms.items():
        fields["loss_terms/" + name] = value
    return fields


def _scene_outputs(arrays):
    """Inverts `_as_dict` for the arrays of all batches."""
    fields = {"loss_terms": {}, "posterior": {}}
    for name, value in arrays.items():
        group, _, member = name.partition("/")
        if member:
            fields[group][member] = value
        else:
            fields[name] = value
    return SceneOutputs(**{**fields, "posterior": fields["posterior"] or None})
