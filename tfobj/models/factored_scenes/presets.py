"""Hyperparameters of the factored scenes: (preset, dataset) -> `Preset`."""

from tfobj.models.settings import Preset

PAPER_TRAIN = {
    "steps": 450_000,
    "batch_size": 100,
    "learning_rate": 5e-4,
    "adam_epsilon": 1e-8,
    "eval_every": 9_000,
    "log_every": 900,
}
"""Anciukevicius 2020, section 4: 500 epochs of 900 steps, the last ten for the scene level; Adam at
a constant rate."""

PAPER_EVAL = {"best_metric": "aiou"}

CLEVR_5 = {
    "image_size": (96, 96),
    "num_slots": 6,
    "canvas_size": 32,
    "appearance_size": 10,
    "background_size": 3,
}
CLEVR_3 = {
    "image_size": (96, 96),
    "num_slots": 4,
    "canvas_size": 40,
    "appearance_size": 10,
    "background_size": 3,
}
MULTI_DSPRITES = {"num_slots": 5, "canvas_size": 32, "features": "attentive", "decoder": "residual"}

QUICK = {
    "position_channels": (16, 24, 32),
    "position_stride": 2,
    "features": "both",
    "encoder_channels": (16, 32, 64, 128, 256),
    "crop_encoder_filters": 16,
    "background": "uniform",
    "background_encoder_channels": (8, 8, 16, 16),
    "background_encoder_hidden": 32,
    "norm": "none",
    "decoder_hidden": 64,
    "decoder_filters": (16, 32, 16, 8),
    "initial_alpha": 0.7,
    "initial_background": 0.02,
    "first_position_temperature": 1.0,
    "position_anneal_steps": 1_500,
    "premultiplied": True,
    "likelihood_scale": 0.05,
    "later_scale": None,
    "beta_appearance": 1.0,
    "beta_depth": 1.0,
    "beta_background": 10.0,
    "position_penalty": "moving",
    "position_penalty_cell": 8,
    "position_penalty_weight": 10.0,
    "alpha_area_weight": 0.3,
    "scene_from_step": 9_000,
    "scene_units": 64,
    "scene_filters": (32, 16, 16, 16),
    "position_target_blur": 1.0,
}
"""Made for two CPU cores. Four settings decide whether objects are found within minutes:

- positions that are spread at first (from a temperature of 1 to 0.3, premultiplied placement);
  otherwise one object renders everything, and the other turns black and leaves;
- a background of one colour, dark from the start; otherwise it learns the mean of all objects, and
  these learn to keep out;
- objects that are at first too bright rather than too dark; otherwise their colours run into white,
  where the sigmoid holds them, and brightness is learned as opacity;
- a small price of opacity; otherwise canvases keep opaque black rims on a black background.
"""

QUICK_TRAIN = {
    "steps": 10_000,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "warmup_steps": 200,
    "decay_rate": 0.3,
    "decay_steps": 4_000,
    "decay_start": 4_000,
    "eval_every": 1_000,
    "log_every": 500,
    "checkpoint_every": 1_000,
}
"""In float32: most of its work is placing and compositing, and bfloat16 takes 1.2 times as long on
a CPU."""

PRESETS = {
    ("quick", "overlapping_polygons"): Preset(
        "Small and fast, ours: small networks, a background of one colour; made for two CPU cores.",
        model=QUICK,
        train=QUICK_TRAIN,
        eval=PAPER_EVAL,
        duration="about 45 minutes on one CPU core",
    ),
    ("paper", "overlapping_polygons"): Preset(
        "Anciukevicius 2020 with the layers of its Table 5: published mIOU 0.83, aIOU 0.90, DPA "
        "0.87, FID 75.9; weights of the loss are ours.",
        model={},
        train=PAPER_TRAIN,
        eval=PAPER_EVAL,
        duration="a day on one GPU",
    ),
    ("paper", "multi_dsprites"): Preset(
        "Anciukevicius 2020, for --dataset=multi_dsprites_colored_on_black: crops around the "
        "objects; published FID 66.7.",
        model=MULTI_DSPRITES,
        train=PAPER_TRAIN,
        eval=PAPER_EVAL,
        duration="a day on one GPU",
    ),
    ("paper", "clevr_with_masks"): Preset(
        "Anciukevicius 2020 on CLEVR-5 (--dataset=clevr5, clevr5_vbg), 96x96: published mIOU 0.78, "
        "aIOU 0.79, DPA 0.74.",
        model=CLEVR_5,
        train=PAPER_TRAIN,
        eval=PAPER_EVAL,
        duration="days on one GPU",
    ),
    ("clevr3", "clevr_with_masks"): Preset(
        "Anciukevicius 2020 on CLEVR-3 (--dataset=clevr3), 96x96, larger canvases: published mIOU "
        "0.84, aIOU 0.85, DPA 0.92.",
        model=CLEVR_3,
        train=PAPER_TRAIN,
        eval=PAPER_EVAL,
        duration="days on one GPU",
    ),
    ("no_scene_prior", "clevr_with_masks"): Preset(
        "The ablation of Anciukevicius 2020, Table 2, on CLEVR-5-vbg: objects independent of each "
        "other.",
        model={**CLEVR_5, "scene_prior": False},
        train=PAPER_TRAIN,
        eval=PAPER_EVAL,
        duration="days on one GPU",
    ),
}
