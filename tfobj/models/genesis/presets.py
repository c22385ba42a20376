"""Hyperparameters of GENESIS: (preset, dataset) -> `Preset`."""

from tfobj.models.settings import Preset

PAPER_TRAIN = {
    "steps": 500_000,
    "batch_size": 32,
    "learning_rate": 1e-4,
    "adam_epsilon": 1e-8,
    "clip_norm": 1e4,
}
"""Released code of Engelcke 2020: Adam at a constant rate. It does not clip; the bound is ours, a
mere guard far above ordinary norms. The code is in PyTorch, so its Adam is `adam_epsilon_placement`
"pytorch"."""

QUICK = {
    "mask_strides": (2, 2),
    "mask_encoder_channels": (32, 32),
    "mask_decoder_channels": (32, 32, 16),
    "mask_features": 128,
    "mask_latent_size": 32,
    "component_latent_size": 8,
    "prior_units": 64,
    "posterior_units": 64,
    "component_prior_hidden": (64,),
    "component_encoder_channels": (16, 32, 32),
    "component_encoder_hidden": 64,
    "component_decoder_channels": (16, 16),
    "geco_goal": None,
    "kl_weight": 0.01,
}
"""Made for two CPU cores: strides of 2 in all layers, few channels, and a component decoder that is
too weak to render shapes, so that masks must.

At the paper's scale of 0.7 the mixture is nearly a mean over slots of squared errors, which
punishes soft masks as well as wrong colours; the KL then needs a small weight. Smaller scales do
worse on Tetris: at 0.1 and 0.2, a black and a white slot explain every channel by itself (fg-ARI
below 0.2 after 1,500 steps; 0.56 at 0.7). With one Gaussian at 0.1, slots find pieces as soon, but
their masks follow the shading and lose dark pixels (0.46 from 1,500 steps on).
"""

QUICK_TRAIN = {
    "steps": 20_000,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "warmup_steps": 500,
    "cooldown_steps": 10_000,
    "clip_norm": 10.0,
    "eval_every": 2_000,
    "log_every": 500,
    "precision": "auto",
}

PRESETS = {
    ("quick", "tetris"): Preset(
        "Small and fast, ours: few channels and a weak component decoder; made for two CPU cores.",
        model={"num_slots": 4, **QUICK},
        train=QUICK_TRAIN,
        duration="about 20 minutes on two CPU cores",
    ),
    ("quick", "multi_dsprites"): Preset(
        "The quick settings of Tetris at 64x64; not tuned.",
        model={"num_slots": 6, **QUICK},
        train=QUICK_TRAIN,
    ),
    ("paper", "tetris"): Preset(
        "Engelcke 2020 on Tetrominoes: K of the released code, images of 35x35, not its 32x32; no "
        "published score. For the authors' Adam, set train.adam_epsilon_placement=pytorch.",
        model={"num_slots": 4},
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("paper", "multi_dsprites"): Preset(
        "Engelcke 2020 on Multi-dSprites, 64x64, 12.6 million parameters: published fg-ARI 0.57 on "
        "the authors' own version of the data. For the authors' Adam, set "
        "train.adam_epsilon_placement=pytorch.",
        model={"num_slots": 6},
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("paper", "clevr_with_masks"): Preset(
        "Engelcke 2020 on CLEVR6, 128x128; the README of the released code advises a smaller "
        "likelihood_scale and goal for it. For the authors' Adam, set "
        "train.adam_epsilon_placement=pytorch.",
        model={"image_size": (128, 128), "num_slots": 7},
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("genesis_s", "multi_dsprites"): Preset(
        "GENESIS-S of Engelcke 2020: one latent per slot, trained like GENESIS. For the authors' "
        "Adam, set train.adam_epsilon_placement=pytorch.",
        model={"num_slots": 6, "variant": "genesis_s"},
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("genesis_v2", "multi_dsprites"): Preset(
        "GENESIS-V2 of Engelcke 2021 with the settings of its released code: no recurrence over "
        "slots. For the authors' Adam, set train.adam_epsilon_placement=pytorch.",
        model={"num_slots": 6, "variant": "genesis_v2"},
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
}
