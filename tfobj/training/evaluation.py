"""Scores a model on a split and measures its health.

Training and `launch/evaluate.py` use it.
"""

import math

import numpy as np
import tensorflow as tf
from tqdm import auto as tqdm

from tfobj import random
from tfobj.data.pipeline import evaluation_batches
from tfobj.metrics.clustering import segment_ids
from tfobj.metrics.health import slot_health
from tfobj.metrics.scene_scores import finite_scenes
from tfobj.metrics.scores import SceneScorer
from tfobj.metrics.tracking import tracking_scores
from tfobj.metrics.video import prediction_scores
from tfobj.nn.slots import fold_slots
from tfobj.structs import SceneOutputs

EVALUATION_SEED = 2_000_003
"""Seed of the noise of evaluations.

It is the same for every run, so that two checkpoints are compared on equal noise.
"""


class Evaluator:
    """Runs a model forward in batches of one shape.

    Args:
      model: `SceneModel`.
      batch_size: scenes per call.
      num_slots, num_steps: those of the evaluation; None is as in training.
      xla: compile with XLA.
      seed: of the noise; scene i draws the same noise whatever the batch size.
    """

    def __init__(
        self, model, batch_size, *, num_slots=None, num_steps=None, xla=False, seed=EVALUATION_SEED
    ):
        self.model = model
        self.batch_size = batch_size
        self.seed = seed

        def infer(image, seed):
            return model(image, num_slots=num_slots, num_steps=num_steps, seed=seed, training=False)

        def forward(image, seed):
            return infer_scenes(model, infer, image, seed)

        def forecast(image, num_predicted, seed):
            return model.forecast(
                image, num_predicted, num_slots=num_slots, num_steps=num_steps, seed=seed
            )

        def health(image, seed):
            return _health_of(infer(image, seed))

        self._forward = tf.function(forward, jit_compile=xla or None, autograph=False)
        self._health = tf.function(health, jit_compile=xla or None, autograph=False)
        self._forecast = tf.function(forecast, jit_compile=xla or None, autograph=False)

    def forward(self, image, first_scene=0):
        """Returns `SceneOutputs` of images [B, (T,) H, W, C].

        An image model sees the frames of clips one by one.

        Args:
          image: float32, values in [0, 1].
          first_scene: index of the first scene in its split.
        """
        seed = random.make_seed(self.seed, 0, first_scene)
        return self._forward(tf.convert_to_tensor(image), seed)

    def forecast(self, image, num_predicted, first_scene=0):
        """Returns `SceneOutputs` of clips and of frames after them; video models only.

        Args:
          image: float32 [B, T, H, W, C], values in [0, 1].
          num_predicted: number of frames after them.
          first_scene: index of the first clip in its split.
        """
        seed = random.make_seed(self.seed, 0, first_scene)
        return self._forecast(tf.convert_to_tensor(image), tf.constant(num_predicted), seed)

    def trace(self, image):
        """Returns the concrete function of `forward`, whose graph can be looked at."""
        return self._forward.get_concrete_function(
            tf.convert_to_tensor(image), random.make_seed(self.seed)
        )

    def health(self, image):
        """Returns `metrics.health.slot_health` of images [B, H, W, C] as floats."""
        health = self._health(tf.convert_to_tensor(image), random.make_seed(self.seed))
        return {name: float(value) for name, value in health.items()}

    def score(self, arrays, description=None, tracking=False, progress=None):
        """Scores all scenes of `arrays`; returns a `SceneScorer`.

        Args:
          arrays: `SceneArrays`.
          description: makes a progress bar.
          tracking: score identity across the frames of labelled clips too (`metrics.tracking`).
          progress: called with (scenes scored, all scenes) before every batch.
        """
        scorer = SceneScorer()
        for first, batch in self._batches(arrays, description):
            if progress is not None:
                progress(first, len(arrays))
            outputs = self.forward(batch["image"], first)
            masks = outputs.masks.numpy()
            # The scorer computes the MSE itself, and a weighted loss serves training alone.
            extra = {
                name: value.numpy()
                for name, value in outputs.loss_terms.items()
                if name not in ("mse", "weighted_loss")
            }
            scores = {}
            if tracking and batch["image"].ndim == 5 and "mask" in batch:
                segments = segment_ids(masks)
                scores = tracking_scores(batch["mask"], segments, num_slots=masks.shape[2])

            scorer.update(
                image=batch["image"],
                recon=outputs.recon.numpy(),
                masks=masks,
                true_mask=batch.get("mask"),
                **self._extents(outputs),
                true_amodal_masks=batch.get("amodal_masks"),
                true_depth=batch.get("depth"),
                extra=extra,
                scores=scores,
                valid=batch["valid"],
            )
        return scorer

    def score_forecast(self, arrays, num_observed, description=None):
        """Scores predictions of the frames that follow the first `num_observed` of each clip.

        Returns:
          {column: [n]} of `metrics.video.prediction_scores`, and `failed_forecasts`, 1 for clips
          whose predictions are not finite.
        """
        columns = {}
        num_predicted = arrays.num_frames - num_observed

        for first, batch in self._batches(arrays, description):
            outputs = self.forecast(batch["image"][:, :num_observed], num_predicted, first)
            scores = prediction_scores(
                batch["image"],
                outputs.recon.numpy(),
                outputs.masks.numpy(),
                batch.get("mask"),
                num_observed=num_observed,
            )
            finite = finite_scenes(outputs.recon.numpy()) & finite_scenes(outputs.masks.numpy())
            scores["failed_forecasts"] = (~finite).astype(np.float64)
            for name, values in scores.items():
                columns.setdefault(name, []).append(values[batch["valid"]])
        return {name: np.concatenate(values) for name, values in columns.items()}

    def _batches(self, arrays, description):
        """Yields (index of the first scene, batch)."""
        bar = tqdm.tqdm(
            evaluation_batches(arrays, self.batch_size),
            description,
            math.ceil(len(arrays) / self.batch_size),
            disable=description is None,
            leave=False,
        )
        for number, batch in enumerate(bar):
            yield number * self.batch_size, batch

    def _extents(self, outputs):
        """Returns what a model with depth says about extents, order and places of its slots.

        It is empty for other models.
        """
        found = {name: value.numpy() for name, value in outputs.extents().items()}
        if "amodal_masks" not in found:
            return {}
        return {**found, "background_slot": self.model.background_slot}


def _health_of(outputs):
    if len(outputs.masks.shape) == 6:
        # Every frame of a clip is an image.
        outputs = outputs._replace(masks=fold_slots(outputs.masks))
    posterior = outputs.posterior or {}
    attention = (outputs.history or {}).get("attention")
    if attention is not None:
        attention = tf.transpose(attention[:, -1], [0, 2, 1])  # [B, K, N]
    return slot_health(outputs.masks, posterior.get("kl"), attention, posterior.get("layer_kl"))


def infer_scenes(model, infer, image, seed):
    """Runs a model on images, or on clips, whose frames a model of images sees one by one.

    Args:
      model: `SceneModel`.
      infer: function of (image, seed) that calls it.
      image: float32 [B, (T,) H, W, C].
      seed: int32 [3].

    Returns:
      `SceneOutputs`.
    """
    if len(image.shape) == 4 or model.is_video:
        return infer(image, seed)
    return frame_by_frame(infer, image, seed)


def frame_by_frame(infer, clips, seed):
    """Runs an image model on every frame of clips.

    Args:
      infer: function of (images [n, H, W, C], seed).
      clips: float32 [B, T, H, W, C] of known T.
      seed: int32 [3]; no two frames have the same noise.

    Returns:
      `SceneOutputs` [B, T, ...]; terms are means over frames.
    """
    num_frames = clips.shape[1]
    outputs = infer(fold_slots(clips), seed * tf.constant([1, 1, num_frames]))
    unfold = lambda x: tf.reshape(x, [-1, num_frames, *x.shape[1:]])
    names = ("recon", "masks", "slot_recons", "slots")
    terms = {
        name: tf.reduce_mean(unfold(term), axis=1) for name, term in outputs.loss_terms.items()
    }
    return SceneOutputs(
        **{name: unfold(getattr(outputs, name)) for name in names}, loss_terms=terms
    )


def validation_score(summary, metric):
    """Returns the number that chooses the best checkpoint; higher is better.

    It is `metric` if the scenes have labels, otherwise - mse. A state whose outputs are not finite
    is never the best.
    """
    value = summary.get(metric, float("nan"))
    if f"failed_{metric}" in summary and not np.isfinite(value):
        return float("-inf")
    if metric == "mse" or not np.isfinite(value):
        return -summary["mse"]
    return value
