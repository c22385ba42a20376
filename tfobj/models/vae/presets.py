"""Hyperparameters of the VAEs: (preset, dataset) -> `Preset`."""

import math

from tfobj.models.settings import Preset

SPRITES_TRAIN = {
    "steps": 200_000,
    "batch_size": 32,
    "learning_rate": 3e-4,
    "adam_epsilon": 1e-8,
    "clip_norm": 5.0,
}
"""Rate, batch and clipping of IODINE in Greff 2019; the steps are ours."""

CLEVR6 = {
    "image_size": (128, 128),
    "latent_size": 64,
    "encoder_channels": (64, 64, 64, 64),
    "encoder_mlp": (256,),
    "decoder_channels": (64, 64, 64, 64),
    "kernel_size": 3,
}
"""The kernels and widths of IODINE on CLEVR6: 1,344,899 parameters."""

CONV_TRAIN = {
    "steps": 450_000,
    "batch_size": 100,
    "learning_rate": 5e-4,
    "adam_epsilon": 1e-8,
    "clip_norm": 1_000.0,
}
"""Anciukevicius 2020, appendix B: Adam 5e-4, 500 epochs of 900 batches. The bound on the gradient
is ours."""

CONV = {
    "architecture": "conv",
    "likelihood_scale": 0.01 / math.sqrt(3),
    "later_scale": 0.01 / math.sqrt(5),
    "later_scale_from_step": 150 * 900,
}
"""Anciukevicius 2020, appendix B, sigma as printed; the formula may also mean sqrt(0.01 / 3) and
sqrt(0.01 / 5)."""

QUICK_TRAIN = {
    "steps": 12_000,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "cooldown_steps": 6_000,
    "clip_norm": None,
    "eval_every": 1_000,
    "log_every": 200,
    "precision": "auto",
}
"""Batches of 16: as good per step as 32 at half the time."""

PRESETS = {
    ("quick", "tetris"): Preset(
        "Small and fast, ours: a decoder at half resolution; made for two CPU cores.",
        model={"decoder_channels": (32, 32, 32), "decoder_pixel_shuffle": 2},
        train=QUICK_TRAIN,
        duration="about 5 minutes on two CPU cores",
    ),
    ("quick", "multi_dsprites"): Preset(
        "The quick settings of Tetris at 64x64; not tuned.",
        model={"latent_size": 64, "decoder_channels": (32, 32, 32), "decoder_pixel_shuffle": 2},
        train=QUICK_TRAIN,
    ),
    ("paper", "tetris"): Preset(
        "The VAE of Greff 2019, Figures 5 and 6, on Tetris; layers and latent size are ours.",
        model={"latent_size": 32},
        train=SPRITES_TRAIN,
        duration="hours on one GPU",
    ),
    ("paper", "multi_dsprites"): Preset(
        "The VAE of Greff 2019, Figures 5 and 6, on Multi-dSprites; layers and latent size are "
        "ours.",
        model={"latent_size": 64},
        train=SPRITES_TRAIN,
        duration="hours on one GPU",
    ),
    ("paper", "clevr_with_masks"): Preset(
        "The VAE of Greff 2019, Figures 5 and 6, on CLEVR6; layers and latent size are ours.",
        model=CLEVR6,
        train={**SPRITES_TRAIN, "steps": 300_000},
        duration="a day on one GPU",
    ),
    ("conv", "multi_dsprites"): Preset(
        "The VAE of Anciukevicius 2020 (26 latents): published FID 89.6 and KID 0.069 on scenes of "
        "2 to 4 objects.",
        model={**CONV, "latent_size": 26},
        train=CONV_TRAIN,
        duration="a day on one GPU",
    ),
    ("conv", "clevr_with_masks"): Preset(
        "The VAE of Anciukevicius 2020 at 96x96 (163 latents, CLEVR-5): published FID 221.9 and "
        "KID 0.224 with varying backgrounds.",
        model={**CONV, "latent_size": 163, "image_size": (96, 96)},
        train=CONV_TRAIN,
        duration="a day on one GPU",
    ),
}
