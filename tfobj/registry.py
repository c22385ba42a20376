"""Explicit tables from the names that users type to the code behind them.

Entries are names of modules and classes, so that looking at the table imports nothing heavy. A
model's settings and presets need no TensorFlow; only its class does.
"""

import importlib
from typing import NamedTuple

from tfobj.errors import unknown_name


class ModelEntry(NamedTuple):
    """One model: the package of its class, settings and presets, and the paper it comes from."""

    module: str
    class_name: str
    config_name: str
    summary: str
    paper: str


MODELS = {
    "slot_attention": ModelEntry(
        "tfobj.models.slot_attention",
        "SlotAttentionAutoencoder",
        "SlotAttentionConfig",
        "competitive attention, exchangeable slots, MSE",
        "Locatello et al. 2020",
    ),
    "slot_mlp": ModelEntry(
        "tfobj.models.slot_mlp",
        "SlotMLPAutoencoder",
        "SlotMLPConfig",
        "a baseline: the autoencoder of slot_attention, ordered slots from an MLP",
        "Locatello et al. 2020",
    ),
    "iodine": ModelEntry(
        "tfobj.models.iodine",
        "Iodine",
        "IodineConfig",
        "iterative amortised inference of a spatial mixture",
        "Greff et al. 2019",
    ),
    "efficient_morl": ModelEntry(
        "tfobj.models.efficient_morl",
        "EfficientMORL",
        "EfficientMORLConfig",
        "bottom-up hierarchical inference, then a few light refinements",
        "Emami et al. 2021",
    ),
    "monet": ModelEntry(
        "tfobj.models.monet",
        "Monet",
        "MonetConfig",
        "recurrent attention breaks masks off the image, a VAE per slot",
        "Burgess et al. 2019",
    ),
    "genesis": ModelEntry(
        "tfobj.models.genesis",
        "Genesis",
        "GenesisConfig",
        "ordered slots by stick breaking, a prior that scenes can be drawn from",
        "Engelcke et al. 2020",
    ),
    "factored_scenes": ModelEntry(
        "tfobj.models.factored_scenes",
        "FactoredScenes",
        "FactoredScenesConfig",
        "complete objects with depth, location and appearance, and a prior over scenes",
        "Anciukevicius et al. 2020",
    ),
    "video_decomposition": ModelEntry(
        "tfobj.models.video_decomposition",
        "VideoDecomposition",
        "VideoDecompositionConfig",
        "clips: refinement over frames and steps, a 2-D LSTM and a prior that follows objects",
        "Zablotskaia et al. 2020",
    ),
    "sequential_iodine": ModelEntry(
        "tfobj.models.sequential_iodine",
        "SequentialIodine",
        "SequentialIodineConfig",
        "clips: IODINE with one refinement per frame",
        "Greff et al. 2019",
    ),
    "rnem": ModelEntry(
        "tfobj.models.rnem",
        "RNem",
        "RNemConfig",
        "clips: neural expectation maximisation, "
        "slots that act on each other predict the next frame",
        "van Steenkiste et al. 2018",
    ),
    "rnn_nem": ModelEntry(
        "tfobj.models.rnn_nem",
        "RnnEM",
        "RnnEMConfig",
        "clips, a baseline: rnem without relations between slots",
        "Greff et al. 2017",
    ),
    "vae": ModelEntry(
        "tfobj.models.vae",
        "VAE",
        "VAEConfig",
        "a baseline: one latent vector per scene, broadcast or convolutional decoder",
        "Greff et al. 2019, Anciukevicius et al. 2020",
    ),
}

MODEL_ALIASES = {
    "genesis-style": "genesis",
    "genesis_style": "genesis",
    "seq_iodine": "sequential_iodine",
    "r_nem": "rnem",
    "rnn_em": "rnn_nem",
}
"""Other spellings that users type -> the name in `MODELS`."""


def model_entry(name):
    """Returns the `ModelEntry` of `name` (hyphens and capitals are forgiven).

    Raises:
      UserError: lists the models and the nearest name.
    """
    canonical = canonical_model_name(name)
    return MODELS[canonical]


def canonical_model_name(name):
    """Returns the key of `MODELS` that `name` means."""
    folded = name.strip().lower()
    folded = MODEL_ALIASES.get(folded, folded.replace("-", "_"))
    if folded not in MODELS:
        raise unknown_name("model", name, [*MODELS, *MODEL_ALIASES])
    return folded


def model_class(name):
    """Imports and returns the `SceneModel` subclass called `name`; this loads TensorFlow."""
    entry = model_entry(name)
    return getattr(importlib.import_module(entry.module), entry.class_name)


def model_config(name):
    """Imports and returns the configuration class of a model, its `config_class`."""
    entry = model_entry(name)
    return getattr(importlib.import_module(entry.module), entry.config_name)


def model_presets(name):
    """Imports and returns the presets of a model: {(preset, dataset): Preset}."""
    return importlib.import_module(model_entry(name).module).PRESETS
