"""Hyperparameters of sequential IODINE: (preset, dataset) -> `Preset`."""

from tfobj.models.iodine.presets import MULTI_DSPRITES, PAPER_TRAIN
from tfobj.models.settings import QUICK_DATA, QUICK_EVAL, Preset

PAPER = {
    **MULTI_DSPRITES,
    "image_size": (64, 64),
    "num_slots": 5,
    "latent_size": 64,
    "num_frames": 16,
}
"""Network sizes of Multi-dSprites. Greff 2019 trains on clips of 16 frames, flights through rooms
that were not published."""

QUICK = {
    "image_size": (32, 32),
    "num_slots": 5,
    "num_frames": 6,
    "latent_size": 16,
    "lstm_size": 64,
    "decoder_channels": (32, 32, 32),
    "decoder_pixel_shuffle": 2,
    "likelihood_scale": 0.3,
}

PRESETS = {
    ("quick", "bouncing_balls"): Preset(
        "A small model of our own for coloured frames of 32 x 32; not yet trained to convergence.",
        model=QUICK,
        train={
            "steps": 3_000,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "warmup_steps": 200,
            "adam_epsilon": 1e-8,
            "clip_norm": 5.0,
            "eval_every": 500,
            "log_every": 100,
        },
        eval=QUICK_EVAL,
        data=QUICK_DATA,
    ),
    ("paper", "bouncing_balls"): Preset(
        "The recipe of Greff 2019, appendix A.1, on balls (--dataset=balls4_color), for which no "
        "scores are published.",
        model=PAPER,
        train={**PAPER_TRAIN, "batch_size": 4},
        duration="days on one GPU",
    ),
}
