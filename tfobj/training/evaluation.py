"""Scoring a model on a split, and looking at its health; used while training and by `launch/evaluate.py`."""

import math

import numpy as np
import tensorflow as tf
from tqdm import auto as tqdm

from tfobj import random
from tfobj.data.pipeline import evaluation_batches
from tfobj.metrics.health import slot_health
from tfobj.metrics.scores import SceneScorer

EVALUATION_SEED = 2_000_003
"""Noise of evaluations: the same for every run, so that two checkpoints are compared on equal noise."""


class Evaluator:
    """Runs a model forward in batches of one shape.

    Args:
      model: `SceneModel`.
      batch_size: scenes per call.
      num_slots, num_steps: other than the model was trained with, if given.
      xla: compile with XLA.
      seed: of the noise; scene i draws the same noise whatever the batch size.
    """

    def __init__(self, model, batch_size, *, num_slots=None, num_steps=None, xla=False, seed=EVALUATION_SEED):
        self.model, self.batch_size, self.seed = model, batch_size, seed

        def forward(image, seed):
            return model(image, num_slots=num_slots, num_steps=num_steps, seed=seed, training=False)

        def health(image, seed):
            outputs = forward(image, seed)
            posterior = outputs.posterior or {}
            attention = (outputs.history or {}).get("attention")
            if attention is not None:
                attention = tf.transpose(attention[:, -1], [0, 2, 1])  # [B, K, N]
            return slot_health(outputs.masks, posterior.get("kl"), attention, posterior.get("layer_kl"))

        self._forward = tf.function(forward, jit_compile=xla or None, autograph=False)
        self._health = tf.function(health, jit_compile=xla or None, autograph=False)

    def forward(self, image, first_scene=0):
        """Returns `SceneOutputs` of images [B, H, W, C]; `first_scene` is the index of the first one in its split."""
        return self._forward(tf.convert_to_tensor(image), random.make_seed(self.seed, 0, first_scene))

    def trace(self, image):
        """Returns the concrete function of `forward`, whose graph can be looked at."""
        return self._forward.get_concrete_function(tf.convert_to_tensor(image), random.make_seed(self.seed))

    def health(self, image):
        """Returns `metrics.health.slot_health` of images [B, H, W, C] as floats."""
        health = self._health(tf.convert_to_tensor(image), random.make_seed(self.seed))
        return {name: float(value) for name, value in health.items()}

    def score(self, arrays, description=None):
        """Scores all scenes of `arrays`; returns a `SceneScorer`. A `description` makes a progress bar."""
        scorer = SceneScorer()
        batches = evaluation_batches(arrays, self.batch_size)
        total = math.ceil(len(arrays) / self.batch_size)
        for i, batch in enumerate(tqdm.tqdm(batches, description, total, disable=description is None, leave=False)):
            outputs = self.forward(batch["image"], i * self.batch_size)
            extra = {name: value.numpy() for name, value in outputs.loss_terms.items() if name not in ("mse", "weighted_loss")}
            scorer.update(image=batch["image"], recon=outputs.recon.numpy(), masks=outputs.masks.numpy(), true_mask=batch.get("mask"),
                          **self._extents(outputs), true_amodal_masks=batch.get("amodal_masks"), true_depth=batch.get("depth"),
                          extra=extra, valid=batch["valid"])
        return scorer

    def _extents(self, outputs):
        """Returns what a model with depth says about extents, order and places of its slots; nothing for others."""
        found = {name: value.numpy() for name, value in outputs.extents().items()}
        return {**found, "background_slot": self.model.background_slot} if "amodal_masks" in found else {}


def validation_score(summary, metric):
    """Returns the number that chooses the best checkpoint, higher is better: `metric` if the scenes have labels, else - mse."""
    value = summary.get(metric, float("nan"))
    if metric == "mse" or not np.isfinite(value):
        return -summary["mse"]
    return value
