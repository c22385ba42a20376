"""Hyperparameters of IODINE: (preset, dataset) -> `Preset`."""

import math

from tfobj.models.settings import Preset

PAPER_TRAIN = {
    "steps": 1_000_000,
    "batch_size": 32,
    "learning_rate": 3e-4,
    "adam_epsilon": 1e-8,
    "clip_norm": 5.0,
}
"""Greff 2019, appendix B: Adam at 3e-4, batch 32 on 8 GPUs, global norm clipped at 5."""

TETRIS = {"num_slots": 4, "latent_size": 32, "lstm_size": 0}
"""Greff 2019, Table 8."""

MULTI_DSPRITES = {"num_slots": 6, "latent_size": 16, "lstm_size": 128}
"""Greff 2019, Table 7. Its refinement table implies 16 latents; its decoder table prints the size
of lambda instead."""

CLEVR6 = {
    "image_size": (128, 128),
    "num_slots": 7,
    "latent_size": 64,
    "decoder_channels": (64, 64, 64, 64),
    "decoder_kernel": 3,
    "refinement_channels": (64, 64, 64, 64),
    "refinement_kernel": 3,
    "refinement_mlp": (256,),
    "lstm_size": 256,
}
"""Greff 2019, Table 6."""

RELEASE = {
    "likelihood": "logistic",
    "likelihood_scale": 0.03,
    "prior_variance": math.log(2.0),
    "latent_constant": True,
    "refinement_mlp_linear_output": True,
    "inputs.legacy_constants": True,
    "inputs.mask_posterior_epsilon": 1e-6,
}
"""Shared by the published configurations of all three datasets."""

SPRITES = {"inputs.coordinate_type": "cosine"}
"""The released configurations of the two sprite sets use eight cosine channels."""


def release_train(batch_size, reference_rate, reference_batch):
    """Returns the released recipe, with the learning rate scaled by the square root of the batch.

    Adam with beta_1 0.95; the rate decays continuously, by a factor of 10 per million steps.
    """
    return {
        "steps": 1_000_000,
        "batch_size": batch_size,
        "learning_rate": reference_rate * math.sqrt(batch_size / reference_batch),
        "decay_rate": 0.1,
        "decay_steps": 1_000_000,
        "adam_beta_1": 0.95,
        "adam_epsilon": 1e-8,
        "clip_norm": 5.0,
    }


QUICK = {
    "num_steps": 3,
    "lstm_size": 0,
    "decoder_channels": (32, 32, 32),
    "decoder_pixel_shuffle": 2,
    "likelihood_scale": 0.3,
}
"""For two CPU cores: three refinements, a decoder at half resolution, and a wide likelihood.

At the paper's scale of 0.1 the mixture first explains pixels by one constant colour per slot and
stays there: fg-ARI 0.00 after 1,500 steps against 0.52 (one run each, whose learning rates also
differed by up to a third)."""

QUICK_TRAIN = {
    "steps": 4_000,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "warmup_steps": 200,
    "adam_epsilon": 1e-8,
    "clip_norm": 5.0,
    "eval_every": 500,
    "log_every": 100,
    "precision": "auto",
}

PRESETS = {
    ("quick", "tetris"): Preset(
        "A small and fast model of our own, for two CPU cores.",
        model={**TETRIS, **QUICK},
        train=QUICK_TRAIN,
        duration="about 10 minutes on two CPU cores",
    ),
    ("quick", "multi_dsprites"): Preset(
        "The quick settings of Tetris for images of 64 x 64; not tuned.",
        model={**MULTI_DSPRITES, **QUICK},
        train=QUICK_TRAIN,
    ),
    ("quick", "bouncing_balls"): Preset(
        "The quick settings with an LSTM, on single frames of coloured balls at 32 x 32: the "
        "baseline of the video models; not tuned.",
        model={**MULTI_DSPRITES, **QUICK, "image_size": (32, 32), "num_slots": 5, "lstm_size": 64},
        train={**QUICK_TRAIN, "steps": 1_500},
        data={"num_train": 2_000, "num_test": 320},
        duration="about 20 minutes on one CPU core",
    ),
    ("paper", "bouncing_balls"): Preset(
        "IODINE frame by frame on balls (--dataset=balls4_color), as in Zablotskaia 2020 with R = "
        "6 and beta = 10, but with the network sizes of Multi-dSprites and 64 latents. With a "
        "network of their own they report a per-frame fg-ARI of 0.998 on white and 0.975 on "
        "coloured balls. For their Adam, set train.adam_epsilon_placement=pytorch.",
        model={
            **MULTI_DSPRITES,
            "num_slots": 5,
            "num_steps": 6,
            "latent_size": 64,
            "likelihood_weight": 10.0,
        },
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("paper", "tetris"): Preset(
        "Greff 2019 on Tetris, published fg-ARI 0.992 +- 0.004.",
        model=TETRIS,
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("paper", "multi_dsprites"): Preset(
        "Greff 2019 on Multi-dSprites, published fg-ARI 0.767 +- 0.056.",
        model=MULTI_DSPRITES,
        train=PAPER_TRAIN,
        duration="days on one GPU",
    ),
    ("paper", "clevr_with_masks"): Preset(
        "Greff 2019 on CLEVR6, published fg-ARI 0.988 +- 0.000.",
        model=CLEVR6,
        train=PAPER_TRAIN,
        duration="about a week on 8 GPUs",
    ),
    ("release", "tetris"): Preset(
        "The released Tetrominoes configuration.",
        train=release_train(256, 3e-4, 256),
        model={**TETRIS, **RELEASE, **SPRITES, "inputs.gradient_scale": 1 / 32},
        duration="days on one GPU",
    ),
    ("release", "multi_dsprites"): Preset(
        "The released Multi-dSprites configuration.",
        train=release_train(128, 3e-4, 128),
        model={**MULTI_DSPRITES, **RELEASE, **SPRITES, "inputs.gradient_scale": 1 / 16},
        duration="days on one GPU",
    ),
    ("release", "clevr_with_masks"): Preset(
        "The released CLEVR6 configuration.",
        train=release_train(32, 1e-3, 32),
        model={**CLEVR6, **RELEASE, "refinement_mlp": (256, 256), "inputs.gradient_scale": 1 / 4},
        duration="about a week on 8 GPUs",
    ),
}
