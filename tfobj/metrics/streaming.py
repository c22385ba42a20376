"""Scores as Keras metrics, for `compile(metrics=...)` and for loops under `tf.distribute`.

The state is a sum over scenes and their number, so that replicas and batches of unequal size are
averaged by scene. Scenes without a defined score (no objects) enter neither. The default names are
those of `scores.SceneScorer.summary`.
"""

import keras
import tensorflow as tf

from tfobj.metrics import clustering_graph, matching, overlap, reconstruction


class SceneMean(keras.metrics.Metric):
    """Mean over scenes of `score(y_true, y_pred)`; subclasses define the score."""

    def __init__(self, name, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable(shape=(), initializer="zeros", dtype="float32", name="total")
        self.count = self.add_variable(shape=(), initializer="zeros", dtype="float32", name="count")

    def score(self, y_true, y_pred):
        """Returns float32 [B]; NaN = undefined."""
        raise NotImplementedError

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
          y_true, y_pred: see `score` of the subclass.
          sample_weight: optional [B]; 0 drops the padding of a last batch.
        """
        scores = self.score(y_true, y_pred)
        # NaN times a weight of 0 would stay NaN, so undefined scores are replaced first.
        weight = tf.cast(tf.logical_not(tf.math.is_nan(scores)), tf.float32)
        scores = tf.where(weight > 0.0, scores, 0.0)
        if sample_weight is not None:
            weight *= tf.cast(sample_weight, tf.float32)

        self.total.assign_add(tf.reduce_sum(weight * scores))
        self.count.assign_add(tf.reduce_sum(weight))

    def result(self):
        """Returns the mean over scenes, a float32 scalar; 0 before the first defined scene."""
        return tf.math.divide_no_nan(
            tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.count)
        )


class _MaskScore(SceneMean):
    """A score of true label maps [B, (T,) H, W] and predicted masks [B, (T,) K, H, W, 1]."""

    def __init__(self, num_true, name, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.num_true = num_true

    def score(self, y_true, y_pred):
        predicted = clustering_graph.segment_ids_on_device(y_pred)
        table = clustering_graph.contingency_table_on_device(
            y_true, predicted, self.num_true, y_pred.shape[-4]
        )
        return self.score_of_table(table)

    def get_config(self):
        return {**super().get_config(), "num_true": self.num_true}


class ForegroundARI(_MaskScore):
    """Mean FG-ARI; `num_true` is the largest number of objects in a scene plus one (background)."""

    def __init__(self, num_true, name="fg_ari", dtype=None):
        super().__init__(num_true, name, dtype)

    def score_of_table(self, table):
        return clustering_graph.adjusted_rand_index_from_table_on_device(
            table, foreground_only=True
        )


class AdjustedRandIndex(_MaskScore):
    """Mean ARI over all pixels, background included."""

    def __init__(self, num_true, name="ari", dtype=None):
        super().__init__(num_true, name, dtype)

    def score_of_table(self, table):
        return clustering_graph.adjusted_rand_index_from_table_on_device(table)


class MeanSegmentationCovering(_MaskScore):
    """Mean covering of the objects (mSC, mBO)."""

    def __init__(self, num_true, name="msc", dtype=None):
        super().__init__(num_true, name, dtype)

    def score_of_table(self, table):
        return overlap.segmentation_covering_from_table_on_device(table)


class MeanMatchedIoU(_MaskScore):
    """Mean IoU of objects under the best one-to-one matching with slots; at most 12 slots."""

    def __init__(self, num_true, name="miou", dtype=None):
        super().__init__(num_true, name, dtype)

    def score_of_table(self, table):
        return matching.mean_matched_iou_from_table_on_device(table)


class ReconstructionError(SceneMean):
    """Mean squared error of images (y_true) and reconstructions (y_pred), [B, (T,) H, W, C]."""

    def __init__(self, name="mse", dtype=None):
        super().__init__(name, dtype)

    def score(self, y_true, y_pred):
        return reconstruction.mean_squared_error_on_device(y_true, y_pred)
