"""Hyperparameters of MONet: (preset, dataset) -> `Preset`."""

from tfobj.models.settings import Preset

PAPER_TRAIN = {
    "steps": 1_000_000,
    "batch_size": 64,
    "learning_rate": 1e-4,
    "optimizer": "rmsprop",
    "rmsprop_rho": 0.99,
    "rmsprop_epsilon": 1e-8,
    "clip_norm": None,
}
"""Burgess 2019, appendix B: RMSProp 1e-4, batch 64. Its decay and epsilon are not given; these are
PyTorch's defaults."""

TETRIS_TRAIN = {
    "steps": 500_000,
    "batch_size": 64,
    "learning_rate": 1e-4,
    "decay_rate": 0.5,
    "decay_steps": 500_000,
    "clip_norm": None,
}

CLEVR6 = {
    "image_size": (128, 128),
    "num_slots": 7,
    "background_scale": 0.06,
    "foreground_scale": 0.1,
}
"""Greff 2019, the baseline of its Table 1: 1,788,293 parameters."""

QUICK = {
    "background_scale": 0.08,
    "foreground_scale": 0.3,
    "mixture": "pixel",
    "initial_gain": 2.45,
    "unet_filters": 12,
    "decoder_channels": (32, 32, 32),
    "decoder_pixel_shuffle": 2,
}
"""Made for two CPU cores: a narrow U-Net, a decoder at half resolution.

The rest comes from single short runs on Tetris in which several settings changed at once, so the
reasons are guesses:

- a wide foreground, since at 0.12 every slot kept one constant colour;
- whole pixels instead of channels, since slots mixed their colours channel by channel;
- a narrow background, since at 0.3 the dark pixels of objects went to it;
- attention at full resolution, since at half of it masks were chequerboards;
- He's initial kernels.

Slots come to own hues, so that objects of similar hue share one.
"""

QUICK_TRAIN = {
    "steps": 9_000,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "cooldown_steps": 3_000,
    "clip_norm": None,
    "eval_every": 500,
    "log_every": 100,
    "precision": "auto",
}

PRESETS = {
    ("quick", "tetris"): Preset(
        "Small and fast, ours, for two CPU cores: separates objects from the background and by "
        "colour, but not yet one by one.",
        model={"num_slots": 4, **QUICK},
        train=QUICK_TRAIN,
        duration="about 10 minutes on two CPU cores",
    ),
    ("quick", "multi_dsprites"): Preset(
        "The quick settings of Tetris at 64x64; not tuned.",
        model={"num_slots": 6, **QUICK},
        train=QUICK_TRAIN,
    ),
    ("paper", "clevr_with_masks"): Preset(
        "MONet on CLEVR6 as in Greff 2019 (K = 7, sigma 0.06 and 0.1): published fg-ARI 0.962 +- "
        "0.006.",
        model=CLEVR6,
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("paper", "multi_dsprites"): Preset(
        "MONet on Multi-dSprites, unmodified: published fg-ARI 0.904 +- 0.008 (Greff 2019, which "
        "does not state K; 6 here).",
        model={"num_slots": 6, "background_scale": 0.09, "foreground_scale": 0.11},
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("paper", "tetris"): Preset(
        "MONet on Tetrominoes with the settings of a public library (sigma 0.3 and 0.36, Adam); "
        "not in the papers. For that library's Adam, set train.adam_epsilon_placement=pytorch.",
        model={"num_slots": 4, "background_scale": 0.3, "foreground_scale": 0.36},
        train=TETRIS_TRAIN,
        duration="days on one GPU",
    ),
}
