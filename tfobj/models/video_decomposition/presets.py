"""Hyperparameters of the video decomposition: (preset, dataset) -> `Preset`."""

from tfobj.models.settings import QUICK_DATA, QUICK_EVAL, Preset

PAPER_TRAIN = {
    "steps": 100_000,
    "batch_size": 32,
    "learning_rate": 3e-4,
    "adam_epsilon": 1e-8,
    "clip_norm": 5.0,
}
"""Zablotskaia 2020, supplement and released code: Adam at 3e-4, batch 32 for clips of 4 frames,
global norm clipped at 5. The number of steps is ours. The code is in PyTorch, so its Adam is
`adam_epsilon_placement` "pytorch"."""

BINARY = {"channels": 1, "likelihood_weight": 300.0, "entropy_weight": 0.1}
"""The paper repeats the single channel three times with a weight of 100, which is the same loss;
only the likelihood shares that the refinement reads are flatter."""
COLOR = {"channels": 3, "adapt_likelihood_weight": True}
CLEVRER = {**COLOR, "num_slots": 6, "num_steps": 5}

QUICK = {
    "image_size": (32, 32),
    "num_steps": 3,
    "num_frames": 1,
    "curriculum": ((500, 2), (900, 4), (1_500, 8)),
    "latent_size": 16,
    "lstm_size": 64,
    "decoder_hidden": (32,),
    "decoder_channels": (32, 32, 32),
    "decoder_kernel": 5,
    "decoder_pixel_shuffle": 2,
    "prior_hidden": 32,
    "refinement_channels": (32, 32, 32),
    "refinement_stride": 2,
    "refinement_pool": 1,
    "refinement_features": 64,
    "stop_decoder_inputs": True,
    "initial_mean": 0.05,
    "output_gain": 0.1,
    "kl_weight": 1.0,
}
"""A frame has a quarter of the paper's pixels, which would make the paper's KL weight four times as
strong; a tenth of it is weaker than in the paper."""
QUICK_CLEVRER = {
    **QUICK,
    "num_slots": 6,
    "initial_mean": 0.4,
    "likelihood_variance": 0.03,
    "likelihood_weight": 30.0,
}
"""A smaller variance, because objects are pale on a grey background.

The mean squared difference between object and background is 0.047 per channel, against 0.39 for
balls, so slots hardly compete under a variance of 0.3. After 1,400 steps the fg-ARI of ten frames
was 0.23 with a variance of 0.3 and a weight of 100, where slots were patches of the background,
and 0.71 with 0.03 and 30 (seed 0, one run each)."""
QUICK_TRAIN = {
    "steps": 2_200,
    "batch_size": 16,
    "learning_rate": 5e-4,
    "warmup_steps": 100,
    "cooldown_steps": 800,
    "clip_norm": 5.0,
    "eval_every": 500,
    "log_every": 100,
    "precision": "auto",
}
"""Some seeds divide frames into stripes or patches for good.

At twice the learning rate and on clips of two frames, one seed of two did (fg-ARI 0.31 after 500
steps). At this rate on single frames, one seed had 0.16 after 400 steps with an `output_gain` of 1,
and 0.54 with 0.1."""

PRESETS = {
    ("quick", "bouncing_balls"): Preset(
        "A small model of our own for two CPU cores: coloured frames of 32 x 32, trained on clips "
        "of 1, 2, 4, then 8 frames.",
        model=QUICK,
        train=QUICK_TRAIN,
        eval=QUICK_EVAL,
        data=QUICK_DATA,
        duration="about 20 minutes on one CPU core",
    ),
    ("quick", "clevrer"): Preset(
        "A small model of our own for two CPU cores: frames of 32 x 32 with 3 to 5 objects, "
        "trained on clips of 1, 2, 4, then 8 frames.",
        model=QUICK_CLEVRER,
        train=QUICK_TRAIN,
        eval=QUICK_EVAL,
        data={"num_train": 500, "num_test": 64},
        duration="about 30 minutes on one CPU core",
    ),
    ("paper", "bouncing_balls"): Preset(
        "Zablotskaia 2020 on binary balls, published per-frame fg-ARI 0.9999 and ARI 0.73. For the "
        "authors' Adam, set train.adam_epsilon_placement=pytorch.",
        model=BINARY,
        train=PAPER_TRAIN,
        duration="a day on 8 GPUs",
    ),
    ("paper_color", "bouncing_balls"): Preset(
        "Zablotskaia 2020 on coloured balls (--dataset=balls4_color), published per-frame fg-ARI "
        "1.0000 and ARI 0.73. For the authors' Adam, set train.adam_epsilon_placement=pytorch.",
        model=COLOR,
        train=PAPER_TRAIN,
        duration="a day on 8 GPUs",
    ),
    ("paper", "clevrer"): Preset(
        "Zablotskaia 2020 on CLEVRER clips of 3 to 5 objects (--dataset=clevrer345, or "
        "clevrer345_public for the published videos), published per-frame fg-ARI 0.93 and ARI 0.27 "
        "with features of a pretrained network, which are left out here. For the authors' Adam, "
        "set train.adam_epsilon_placement=pytorch.",
        model=CLEVRER,
        train=PAPER_TRAIN,
        duration="a day on 8 GPUs",
    ),
}
