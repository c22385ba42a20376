"""Hyperparameters of R-NEM and RNN-EM: (preset, dataset) -> `Preset`."""

from tfobj.models.settings import QUICK_DATA, QUICK_EVAL, Preset

PAPER_TRAIN = {
    "steps": 390_500,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "adam_epsilon": 1e-8,
    "clip_norm": None,
}
"""Released code of van Steenkiste 2018: Adam at 1e-3 without clipping, at most 500 epochs of 781
updates. There, training stopped ten epochs after the best validation loss; here, the best
checkpoint is kept."""

QUICK = {
    "image_size": (32, 32),
    "channels": 1,
    "num_frames": 20,
    "noise": 0.1,
    "initial_mean": 0.1,
    "state_size": 64,
    "relation_size": 64,
    "attention_size": 32,
    "encoder_channels": (8, 16),
    "encoder_hidden": (128,),
    "decoder_hidden": (128,),
    "decoder_channels": (16, 8),
}
"""Long clips, and slots that begin dark.

On clips of eight frames (batch 16, rate 1e-3, noise 0.2) every slot kept predicting all balls:
the fg-ARI of ten frames was 0.40 after 2,000 steps, against 0.63 after 300 on clips of twenty.
With an `initial_mean` of 0.1 the loss was 134 after 250 steps, with 0.5 it was 189 after 300. One
run each."""
QUICK_TRAIN = {
    "steps": 1_000,
    "batch_size": 8,
    "learning_rate": 2e-3,
    "warmup_steps": 100,
    "cooldown_steps": 400,
    "clip_norm": None,
    "eval_every": 500,
    "log_every": 100,
}
"""In float32: its maps are so small that bfloat16 takes 1.05 times as long on a CPU."""

PRESETS = {
    ("quick", "bouncing_balls"): Preset(
        "A small model of our own for binary balls of 32 x 32, for two CPU cores.",
        model=QUICK,
        train=QUICK_TRAIN,
        eval=QUICK_EVAL,
        data=QUICK_DATA,
        duration="about 20 minutes on one CPU core",
    ),
    ("paper", "bouncing_balls"): Preset(
        "van Steenkiste 2018 on four binary balls, also for --dataset=balls3_curtain, and for "
        "testing on balls678_binary with num_slots=8. Zablotskaia 2020 reports for its public "
        "weights a per-frame fg-ARI of 0.77 and an ARI of 0.66 over 30 frames (0.64 and 0.45 on 6 "
        "to 8 balls with 9 slots). In the released code, inputs have noise in tests too "
        "(model.noise_everywhere).",
        model={},
        train=PAPER_TRAIN,
        duration="a day on one GPU",
    ),
    ("no_attention", "bouncing_balls"): Preset(
        "R-NEM without attention, trained like R-NEM.",
        model={"attention": False},
        train=PAPER_TRAIN,
        duration="a day on one GPU",
    ),
    ("rnn", "bouncing_balls"): Preset(
        "The recurrent network of van Steenkiste 2018, with one slot for the whole frame, trained "
        "like R-NEM.",
        model={"variant": "rnn", "num_slots": 1},
        train=PAPER_TRAIN,
    ),
    ("lstm", "bouncing_balls"): Preset(
        "The LSTM of van Steenkiste 2018, with one slot for the whole frame, trained like R-NEM.",
        model={"variant": "lstm", "num_slots": 1},
        train=PAPER_TRAIN,
    ),
}
