"""Hyperparameters of Slot Attention: (preset, dataset) -> `Preset`."""

from tfobj.models.settings import Preset

PAPER_TRAIN = {
    "steps": 500_000,
    "batch_size": 64,
    "learning_rate": 4e-4,
    "warmup_steps": 10_000,
    "decay_rate": 0.5,
    "decay_steps": 100_000,
    "adam_epsilon": 1e-8,
    "clip_norm": None,
}
"""Locatello 2020, official training code: linear warm-up, continuous halving every 100,000 steps,
no clipping."""

CLEVR6 = {
    "image_size": (128, 128),
    "num_slots": 7,
    "slot_size": 64,
    "encoder_channels": (64, 64, 64, 64),
    "decoder_channels": (64, 64, 64, 64, 64),
    "decoder_kernels": (5, 5, 5, 5, 5, 3),
    "decoder_strides": (2, 2, 2, 2, 1, 1),
    "decoder_grid": (8, 8),
}
"""Locatello 2020, Table 6: 890,308 parameters."""

QUICK = {
    "encoder_channels": (32, 96, 96, 96),
    "encoder_kernels": (5, 5, 3, 3),
    "encoder_strides": (2, 2, 1, 1),
    "token_hidden": 128,
    "decoder_channels": (32, 32, 32),
    "decoder_kernels": (5, 5, 5, 3),
    "decoder_pixel_shuffle": 2,
    "decoder_coarse_masks": True,
}
"""Made for two CPU cores: a strided encoder (81 tokens on Tetris), a decoder at half resolution."""

QUICK_TRAIN = {
    "steps": 24_000,
    "batch_size": 8,
    "learning_rate": 5e-4,
    "warmup_steps": 1_000,
    "cooldown_steps": 24_000,
    "clip_norm": 1.0,
    "eval_every": 2_000,
    "log_every": 500,
    "precision": "auto",
}

PRESETS = {
    ("quick", "tetris"): Preset(
        "Small and fast, ours: a strided encoder, a small decoder; made for two CPU cores.",
        model={"num_slots": 4, "initial_log_sigma": -2.0, "decoder_grid": (18, 18), **QUICK},
        train=QUICK_TRAIN,
        duration="about 20 minutes on two CPU cores",
    ),
    ("quick", "multi_dsprites"): Preset(
        "The quick settings of Tetris at 64x64; not tuned.",
        model={"num_slots": 6, "initial_log_sigma": -2.0, "decoder_grid": (32, 32), **QUICK},
        train=QUICK_TRAIN,
    ),
    ("paper", "tetris"): Preset(
        "Locatello 2020 on Tetrominoes (layers as in the re-implementations): published fg-ARI "
        "0.995 +- 0.002.",
        model={"num_slots": 4},
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("paper", "multi_dsprites"): Preset(
        "Locatello 2020 on Multi-dSprites, 64x64: published fg-ARI 0.913 +- 0.003.",
        model={"num_slots": 6},
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("paper", "clevr_with_masks"): Preset(
        "Locatello 2020 on CLEVR6, 128x128: published fg-ARI 0.988 +- 0.003.",
        model=CLEVR6,
        train=PAPER_TRAIN,
        duration="a day on one 16 GB GPU",
    ),
}
