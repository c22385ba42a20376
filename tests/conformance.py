"""The table of models that go through the battery of `test_conformance.py`: one line each.

A line holds the smallest configuration that still has every part: a picture that is not square, two
layers where there are several, a memory where there is one.
"""

import contextlib
import functools
import pathlib
import tempfile
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfobj import random, registry
from tfobj.execution import Execution
from tfobj.training.experiment import TrainConfig
from tfobj.training.optimizer import make_optimizer
from tfobj.training.step import TrainStep


class Case(NamedTuple):
    """One model in a tiny configuration."""

    model: str
    overrides: dict
    name: str = ""
    """Tells lines of one model apart; named lines are slow tests where tracing takes seconds."""
    another_size: tuple = (9, 7)
    """(H, W) of other pictures that the model can be built for."""

    @property
    def id(self):
        return f"{self.model}-{self.name}" if self.name else self.model

    @property
    def config(self):
        return registry.model_class(self.model).config_class().override(self.overrides)


SLOT_AUTOENCODER = {
    "image_size": (10, 12),
    "num_slots": 3,
    "slot_size": 6,
    "encoder_channels": (6, 6),
    "encoder_kernels": (3,),
    "decoder_channels": (6, 6),
    "decoder_kernels": (3,),
}
IODINE = {
    "image_size": (10, 12),
    "num_slots": 3,
    "num_steps": 2,
    "latent_size": 4,
    "decoder_channels": (6, 6),
    "decoder_kernel": 3,
    "refinement_channels": (6, 6),
    "refinement_kernel": 3,
    "refinement_mlp": (8,),
    "lstm_size": 8,
}
MONET = {
    "image_size": (10, 12),
    "num_slots": 3,
    "latent_size": 4,
    "background_scale": 0.2,
    "foreground_scale": 0.25,
    "unet_filters": 4,
    "unet_mlp": (8, 8),
    "encoder_channels": (6, 6),
    "encoder_mlp": (8,),
    "decoder_channels": (6, 6),
}

# A gain of 1: from the published 0.02 all slots are equal to eight digits, and nothing could be
# told apart.
EFFICIENT_MORL = {
    "image_size": (10, 12),
    "num_slots": 3,
    "num_steps": 2,
    "latent_size": 4,
    "encoder_channels": (6, 6),
    "encoder_kernels": (3,),
    "decoder": "iodine",
    "decoder_channels": (6, 6, 6, 6),
    "initial_gain": 1.0,
}

GENESIS = {
    "image_size": (10, 12),
    "num_slots": 3,
    "mask_latent_size": 5,
    "component_latent_size": 4,
    "norm": "none",
    "mask_strides": (1, 2),
    "mask_encoder_channels": (6, 6),
    "mask_decoder_channels": (6, 6, 6),
    "mask_features": 8,
    "posterior_units": 8,
    "prior_units": 8,
    "component_prior_hidden": (8,),
    "component_encoder_channels": (6, 6),
    "component_encoder_hidden": 8,
    "component_decoder_channels": (6, 6),
}
# Not square, and a side that pools round up; no norm, so that scenes do not see each other.
FACTORED_SCENES = {
    "image_size": (10, 12),
    "num_slots": 3,
    "canvas_size": 8,
    "appearance_size": 4,
    "position_channels": (6, 6),
    "encoder_channels": (6,),
    "background_encoder_channels": (4,),
    "background_encoder_hidden": 6,
    "norm": "none",
    "decoder_hidden": 8,
    "decoder_filters": (4, 6, 6, 6),
    "likelihood_scale": 0.3,
    "later_scale": None,
    "beta_appearance": 1.0,
    "beta_depth": 1.0,
    "beta_background": 1.0,
    "position_penalty": "moving",
    "position_penalty_weight": 1.0,
    "position_penalty_cell": 4,
    "scene_units": 8,
    "scene_filters": (4, 4, 4, 4),
    "scene_code_size": 4,
}
VAE = {
    "image_size": (10, 12),
    "latent_size": 4,
    "likelihood_scale": 0.2,
    "encoder_channels": (6, 6),
    "encoder_mlp": (8,),
    "decoder_channels": (6, 6),
    "kernel_size": 3,
}
CONV_VAE = {
    "architecture": "conv",
    "image_size": (16, 32),
    "latent_size": 4,
    "conv_filters": 8,
    "likelihood_scale": 0.5,
    "later_scale": 0.4,
    "later_scale_from_step": 5,
}

MODELS = [
    Case("slot_attention", {**SLOT_AUTOENCODER, "num_steps": 2, "mlp_hidden": 8}),
    Case("slot_mlp", {**SLOT_AUTOENCODER, "pooled_grid": 4, "hidden": (8, 8)}),
    Case("iodine", IODINE),
    Case(
        "iodine",
        {**IODINE, "decoder_pixel_shuffle": 2, "decoder_coarse_masks": True},
        name="coarse_masks",
    ),
    Case(
        "iodine",
        {
            **IODINE,
            "decoder": "deconv",
            "likelihood": "logistic",
            "likelihood_scale": 0.1,
            "prior_variance": 0.7,
            "lstm_size": 0,
            "latent_constant": True,
            "inputs.legacy_constants": True,
            "inputs.coordinate_type": "cosine",
        },
        name="ablations",
    ),
    Case("monet", MONET),
    Case("efficient_morl", {**EFFICIENT_MORL, "geco_target": -0.5, "geco_warm_steps": 0}),
    Case(
        "efficient_morl",
        {
            **EFFICIENT_MORL,
            "decoder": "small",
            "decoder_channels": (6, 6, 6),
            "prior": "bottom_up",
            "likelihood": "mixture",
            "dual_gru": False,
            "refinement_weighting": "released",
        },
        name="ablations",
    ),
    Case("genesis", GENESIS),
    Case(
        "genesis",
        {
            **GENESIS,
            "variant": "genesis_s",
            "norm": "batch",
            "likelihood": "gaussian",
            "likelihood_scale": 0.3,
            "kl": "analytic",
            "autoregressive_prior": False,
            "geco_goal": None,
        },
        name="ablations",
    ),
    Case(
        "genesis",
        {**GENESIS, "variant": "genesis_v2", "v2_features": 16, "v2_embedding_gain": 0.5},
        name="v2",
    ),
    Case("factored_scenes", FACTORED_SCENES, another_size=(9, 8)),
    # A warm temperature: at 0.3 the crops follow the rounding of the logits, and the cosine of the
    # gradient in bfloat16 is 0.995.
    Case(
        "factored_scenes",
        {
            **FACTORED_SCENES,
            "image_size": (16, 12),
            "features": "attentive",
            "decoder": "residual",
            "crop_encoder_filters": 8,
            "residual_decoder_filters": 8,
            "ordering": "softras_or",
            "premultiplied": True,
            "position_stride": 2,
            "norm": "group",
            "background": "uniform",
            "position_penalty": "batch",
            "position_temperature": 1.0,
            "alpha_entropy_weight": 1.0,
            "alpha_area_weight": 0.1,
            "scene_prior": False,
        },
        name="ablations",
        another_size=(9, 8),
    ),
    Case("vae", VAE),
    Case("vae", CONV_VAE, name="conv", another_size=(32, 16)),
]


VIDEO_DECOMPOSITION = {
    "image_size": (10, 12),
    "num_slots": 3,
    "num_steps": 3,
    "num_frames": 3,
    "curriculum": (),
    "latent_size": 4,
    "lstm_size": 8,
    "decoder_hidden": (8,),
    "decoder_channels": (6, 6),
    "refinement_channels": (6, 6),
    "refinement_pool": 2,
    "refinement_features": 8,
    "prior_hidden": 8,
    "likelihood_weight": 1.0,
    "kl_weight": 1.0,
    "entropy_weight": 0.1,
}
# Of the second frame R-NEM predicts from states that are all zero: three frames, or the encoder of
# states learns nothing.
RNEM = {
    "image_size": (10, 12),
    "channels": 3,
    "num_slots": 3,
    "num_frames": 3,
    "state_size": 6,
    "relation_size": 5,
    "attention_size": 4,
    "encoder_channels": (4, 6),
    "encoder_hidden": (8,),
    "decoder_hidden": (8,),
    "decoder_channels": (6, 4),
}
CLIP_MODELS = [
    Case("video_decomposition", VIDEO_DECOMPOSITION),
    Case(
        "video_decomposition",
        {
            **VIDEO_DECOMPOSITION,
            "lstm_form": "graves",
            "prior_scale": "paper",
            "grid": "paper",
            "cell_weights": "paper",
            "stop_decoder_inputs": True,
        },
        name="paper",
    ),
    Case("sequential_iodine", {**IODINE, "num_frames": 3}),
    Case("rnem", RNEM),
]
"""Models of clips, through the battery of `test_conformance_clips.py`."""


def slow_if_named(cases):
    """Returns parameters for tests that take seconds per case: named cases are slow tests."""
    return [pytest.param(case, marks=[pytest.mark.slow] if case.name else []) for case in cases]


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
    """Returns float32 [B, (T,) H, W, C]: two bright rectangles, in clips moving to the right."""
    if config.is_video:
        first = _pictures(config, batch, seed)
        return np.stack([np.roll(first, t, axis=2) for t in range(config.num_frames)], axis=1)
    return _pictures(config, batch, seed)


def _pictures(config, batch, seed):
    rng = np.random.default_rng(seed)
    height, width = config.image_size
    image = np.tile(
        np.linspace(0, 0.2, width, dtype=np.float32)[None, None, :, None],
        (batch, height, 1, config.channels),
    )
    for scene in image:
        for _ in range(2):
            row, column = rng.integers(0, height - 4), rng.integers(0, width - 4)
            scene[row : row + 4, column : column + 4] = rng.uniform(0.3, 1.0, config.channels)
    return image


def seed(run=SEED[0], step=SEED[1], first_scene=SEED[2]):
    return random.make_seed(run, step, first_scene)


def gradients(model, image, seeds=None, step=5, compiled=None, stage=None):
    """Returns (outputs, terms, gradients) of a pass: eager, as graph (False), by XLA (True)."""

    def run(batch, s):
        return model.loss_and_gradients(batch, s, tf.constant(step, tf.int64), stage=stage)

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
    return {
        name: np.asarray(getattr(outputs, name), np.float64)
        for name in ("recon", "masks", "slot_recons", "slots")
        if hasattr(outputs, name)
    }


def assert_same_outputs(got, expected, atol):
    """Compares the fields of `image_like`; `atol` is in units of 1 + the field's largest value."""
    for name, value in image_like(expected).items():
        np.testing.assert_allclose(
            image_like(got)[name], value, atol=atol * (1 + np.abs(value).max()), err_msg=name
        )


def once_per_case(function):
    """Makes a function of a `Case` compute its result once; tests of a case share a process."""
    results = {}

    @functools.wraps(function)
    def get(case):
        if case.id not in results:
            results[case.id] = function(case)
        return results[case.id]

    return get


@once_per_case
def model_of(case):
    """Returns the model of a case; tests that change its weights build their own."""
    return build(case)


@once_per_case
def outputs_of(case):
    """Returns what `model_of(case)` makes of `scenes` with `seed()`: eager, or a graph for clips.

    Eager loops over the cells of a clip would take minutes.
    """
    image = tf.constant(scenes(case.config))
    if case.config.is_video:
        return graph_of(case)(image)
    return model_of(case)(image, seed=seed())


@once_per_case
def graph_of(case):
    """Returns `model_of(case)` with `seed()` as a graph."""
    return tf.function(functools.partial(model_of(case), seed=seed()), autograph=False)


@once_per_case
def training_pass(case):
    """Returns `gradients` of `model_of(case)` on its `scenes`: eager, or a graph for clips."""
    compiled = False if case.config.is_video else None
    return gradients(model_of(case), scenes(case.config), compiled=compiled)


NUM_UPDATES = 4
"""Updates of `whole_run`; it is saved after half of them."""


class Trainer(NamedTuple):
    """A model with all that updates it; its clipping is always active."""

    model: Any
    optimizer: Any
    step: TrainStep


def make_trainer(case, strategy, chosen=Execution(), micro_batches=1):
    """Returns the `Trainer` of a case."""
    config = TrainConfig(learning_rate=1e-3, clip_norm=1e-2, batch_size=BATCH)
    with strategy.scope():
        model = build(case)
        optimizer = make_optimizer(config)
    step = TrainStep(
        strategy, model, optimizer, run_seed=3, execution=chosen, micro_batches=micro_batches
    )
    return Trainer(model, optimizer, step)


def batches(config, start=0):
    """Returns a dataset of `NUM_UPDATES` batches, from batch `start` on."""
    images = np.stack([scenes(config, seed=s) for s in range(NUM_UPDATES)])
    return tf.data.Dataset.from_tensor_slices({"image": images}).skip(start)


def weights_of(model):
    """Returns copies of all variables, the state that no gradient trains included."""
    return [np.asarray(v.numpy()) for v in model.variables]


class WholeRun(NamedTuple):
    """What a run on one device leaves behind."""

    weights_halfway: list
    terms_halfway: dict
    checkpoint: str
    """Saved halfway."""
    weights: list


@once_per_case
def whole_run(case):
    """Returns the `WholeRun` of `NUM_UPDATES` updates on one device; other ways must equal it."""
    trainer = make_trainer(case, tf.distribute.OneDeviceStrategy("/cpu:0"))
    before = weights_of(trainer.model)
    iterator = iter(batches(case.config))

    terms, bad_step = trainer.step.run(iterator, NUM_UPDATES // 2)
    halfway = weights_of(trainer.model)
    assert bad_step == -1 and terms["grad_norm"] > 1e-2  # or clipping would not be tested
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(before, halfway, strict=True))

    folder = pathlib.Path(tempfile.mkdtemp())
    state = tf.train.Checkpoint(model=trainer.model, optimizer=trainer.optimizer)
    checkpoint = state.save(folder / "state")
    trainer.step.run(iterator, NUM_UPDATES // 2)
    return WholeRun(halfway, terms, checkpoint, weights_of(trainer.model))


def updates(case, strategy, chosen=Execution(), micro_batches=1, num_steps=2):
    """Returns (weights, terms of the last call) after `num_steps` updates."""
    trainer = make_trainer(case, strategy, chosen, micro_batches)
    iterator = iter(strategy.experimental_distribute_dataset(batches(case.config)))
    terms, bad_step = trainer.step.run(iterator, num_steps)
    assert bad_step == -1
    return weights_of(trainer.model), terms


def assert_same_updates(got, expected, atol=1e-5):
    """Compares two results of `updates`; Adam moves a weight by 1e-3 per step at any gradient."""
    (weights, terms), (expected_weights, expected_terms) = got, expected
    for name, value in expected_terms.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, err_msg=name)
    for a, b in zip(expected_weights, weights, strict=True):
        np.testing.assert_allclose(b, a, atol=atol, rtol=1e-5)
