"""The table of models that go through the whole battery of `test_conformance.py`. A new model is one line.

A line holds the smallest configuration that still has every part: a picture that is not square, two layers
where there are several, a memory where there is one.
"""

import contextlib
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfobj import random, registry


class Case(NamedTuple):
    """One model in a tiny configuration."""

    model: str
    overrides: dict
    name: str = ""
    """Tells several lines of one model apart; lines with a name are left out where a graph takes many seconds to trace."""

    @property
    def id(self):
        return f"{self.model}-{self.name}" if self.name else self.model

    @property
    def config(self):
        return registry.model_class(self.model).config_class().override(self.overrides)


SLOT_AUTOENCODER = {"image_size": (10, 12), "num_slots": 3, "slot_size": 6, "encoder_channels": (6, 6), "encoder_kernels": (3,),
                    "decoder_channels": (6, 6), "decoder_kernels": (3,)}
IODINE = {"image_size": (10, 12), "num_slots": 3, "num_steps": 2, "latent_size": 4, "decoder_channels": (6, 6), "decoder_kernel": 3,
          "refinement_channels": (6, 6), "refinement_kernel": 3, "refinement_mlp": (8,), "lstm_size": 8}

MODELS = [
    Case("slot_attention", {**SLOT_AUTOENCODER, "num_steps": 2, "mlp_hidden": 8}),
    Case("slot_mlp", {**SLOT_AUTOENCODER, "pooled_grid": 4, "hidden": (8, 8)}),
    Case("iodine", IODINE),
    Case("iodine", {**IODINE, "decoder": "deconv", "likelihood": "logistic", "likelihood_scale": 0.1, "prior_variance": 0.7, "lstm_size": 0,
                    "latent_constant": True, "inputs.legacy_constants": True, "inputs.coordinate_type": "cosine"}, name="ablations"),
]

BATCH = 4
SEED = (11, 5, 0)


@contextlib.contextmanager
def precision(policy):
    """Builds what is built inside under another Keras policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build(case, policy="float32", **overrides):
    """Returns the model of a case; equal weights at every call."""
    keras.utils.set_random_seed(3)
    with precision(policy):
        return registry.model_class(case.model)(case.config.override(overrides))


def scenes(config, batch=BATCH, seed=0):
    """Returns float32 [B, H, W, C]: two bright rectangles per scene on a dark gradient."""
    rng = np.random.default_rng(seed)
    height, width = config.image_size
    image = np.tile(np.linspace(0, 0.2, width, dtype=np.float32)[None, None, :, None], (batch, height, 1, config.channels))
    for scene in image:
        for _ in range(2):
            row, column = rng.integers(0, height - 4), rng.integers(0, width - 4)
            scene[row : row + 4, column : column + 4] = rng.uniform(0.3, 1.0, config.channels)
    return image


def seed(run=SEED[0], step=SEED[1], first_scene=SEED[2]):
    return random.make_seed(run, step, first_scene)


def gradients(model, image, seeds=None, step=5, compiled=None):
    """Returns (outputs, terms, gradients) of one training pass; `compiled`: None eager, False graph, True XLA."""
    def run(batch, s):
        return model.loss_and_gradients(batch, s, tf.constant(step, tf.int64))

    run = run if compiled is None else tf.function(run, jit_compile=compiled, autograph=False)
    return run({"image": tf.constant(image)}, seed() if seeds is None else seeds)


def flat(tensors):
    """Joins tensors into one float64 vector."""
    return np.concatenate([np.asarray(t, np.float64).ravel() for t in tensors])


def cosine(a, b):
    a, b = flat(a), flat(b)
    return a @ b / np.sqrt((a @ a) * (b @ b))


def image_like(outputs):
    """Returns the fields of `SceneOutputs` or `DecodedScene` that every model has."""
    return {name: np.asarray(getattr(outputs, name), np.float64) for name in ("recon", "masks", "slot_recons", "slots") if hasattr(outputs, name)}
