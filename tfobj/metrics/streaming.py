"""Scores as Keras metrics, for `compile(metrics=...)` and for loops under `tf.distribute`.

The state is a sum over scenes and their number, so that replicas and batches of unequal size are
averaged by scene. Scenes without a defined score (no objects) enter neither. Scenes whose `y_pred`
is NaN or infinite somewhere have failed: they enter with the worst value, and `FailedScenes` counts
them. The default names are those of `scores.SceneScorer.summary`, and so are the values.
"""

import keras
import tensorflow as tf

from tfobj.metrics import clustering_graph, definitions, matching, overlap, reconstruction


def failed_scenes_on_device(y_pred):
    """Returns which scenes of predictions [B, ...] are not finite in every number: bool [B]."""
    y_pred = tf.convert_to_tensor(y_pred)
    if not y_pred.dtype.is_floating:
        return tf.zeros(tf.shape(y_pred)[:1], tf.bool)
    axes = list(range(1, y_pred.shape.rank))
    return tf.logical_not(tf.reduce_all(tf.math.is_finite(y_pred), axis=axes))


class SceneMean(keras.metrics.Metric):
    """Mean over scenes of `score(y_true, y_pred)`; subclasses define the score.

    Attributes:
      worst: the score of a failed scene, unless the truth leaves the score undefined. NaN, the
        default, makes the mean NaN.
    """

    worst = float("nan")

    def __init__(self, name, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable(shape=(), initializer="zeros", dtype="float32", name="total")
        self.count = self.add_variable(shape=(), initializer="zeros", dtype="float32", name="count")

    def score(self, y_true, y_pred):
        """Returns float32 [B]; NaN = undefined.

        `y_pred` is zero in scenes that failed; their score does not matter unless it is NaN.
        """
        raise NotImplementedError

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
          y_true, y_pred: see `score` of the subclass.
          sample_weight: optional [B]; 0 drops the padding of a last batch.
        """
        y_pred = tf.convert_to_tensor(y_pred)
        failed = failed_scenes_on_device(y_pred)
        kept = tf.reshape(tf.logical_not(failed), [-1, *[1] * (y_pred.shape.rank - 1)])
        scores = self.score(y_true, tf.where(kept, y_pred, tf.zeros([], y_pred.dtype)))

        weight = tf.cast(tf.logical_not(tf.math.is_nan(scores)), tf.float32)
        scores = tf.where(failed, tf.constant(self.worst, tf.float32), scores)
        if sample_weight is not None:
            weight *= tf.cast(sample_weight, tf.float32)

        # NaN or infinity times a weight of 0 would be NaN.
        self.total.assign_add(tf.reduce_sum(tf.where(weight > 0.0, weight * scores, 0.0)))
        self.count.assign_add(tf.reduce_sum(weight))

    def result(self):
        """Returns the mean over scenes, a float32 scalar; 0 before the first defined scene.

        It is infinite if a scene failed and the score has no finite worst value.
        """
        return tf.math.divide_no_nan(
            tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.count)
        )


class FailedScenes(keras.metrics.Metric):
    """Number of scenes whose `y_pred` is NaN or infinite somewhere."""

    def __init__(self, name="failed_scenes", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable(shape=(), initializer="zeros", dtype="float32", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch; `y_true` is not read, and scenes with a weight of 0 are left out."""
        failed = tf.cast(failed_scenes_on_device(y_pred), tf.float32)
        if sample_weight is not None:
            failed *= tf.cast(tf.cast(sample_weight, tf.float32) > 0.0, tf.float32)
        self.total.assign_add(tf.reduce_sum(failed))

    def result(self):
        """Returns the number of scenes, a float32 scalar."""
        return tf.convert_to_tensor(self.total)


class _MaskScore(SceneMean):
    """A score of true label maps [B, (T,) H, W] and predicted masks [B, (T,) K, H, W, 1].

    True ids must be less than `num_true`; 255 and negative ids are not scored. Others end with an
    error; under XLA, which drops assertions, the mean becomes -infinity.
    """

    def __init__(self, num_true, name, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.num_true = num_true

    def score(self, y_true, y_pred):
        predicted = clustering_graph.segment_ids_on_device(y_pred)
        table = clustering_graph.contingency_table_on_device(
            y_true, predicted, self.num_true, y_pred.shape[-4]
        )
        broken = tf.math.is_nan(table[:, 0, 0])
        return tf.where(broken, -float("inf"), self.score_of_table(table))

    def get_config(self):
        return {**super().get_config(), "num_true": self.num_true}


class ForegroundARI(_MaskScore):
    """Mean FG-ARI; `num_true` is the largest number of objects in a scene plus one (background)."""

    worst = definitions.worst("fg_ari")

    def __init__(self, num_true, name="fg_ari", dtype=None):
        super().__init__(num_true, name, dtype)

    def score_of_table(self, table):
        return clustering_graph.adjusted_rand_index_from_table_on_device(
            table, foreground_only=True
        )


class AdjustedRandIndex(_MaskScore):
    """Mean ARI over all pixels, background included."""

    worst = definitions.worst("ari")

    def __init__(self, num_true, name="ari", dtype=None):
        super().__init__(num_true, name, dtype)

    def score_of_table(self, table):
        return clustering_graph.adjusted_rand_index_from_table_on_device(table)


class MeanSegmentationCovering(_MaskScore):
    """Mean covering of the objects (mSC, mBO)."""

    worst = definitions.worst("msc")

    def __init__(self, num_true, name="msc", dtype=None):
        super().__init__(num_true, name, dtype)

    def score_of_table(self, table):
        return overlap.segmentation_covering_from_table_on_device(table)


class MeanMatchedIoU(_MaskScore):
    """Mean IoU of objects under the best one-to-one matching with slots; at most 12 slots."""

    worst = definitions.worst("miou")

    def __init__(self, num_true, name="miou", dtype=None):
        super().__init__(num_true, name, dtype)

    def score_of_table(self, table):
        return matching.mean_matched_iou_from_table_on_device(table)


class ReconstructionError(SceneMean):
    """Mean squared error of images (y_true) and reconstructions (y_pred), [B, (T,) H, W, C]."""

    worst = definitions.worst("mse")

    def __init__(self, name="mse", dtype=None):
        super().__init__(name, dtype)

    def score(self, y_true, y_pred):
        return reconstruction.mean_squared_error_on_device(y_true, y_pred)
