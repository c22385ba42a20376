"""Hyperparameters of RNN-EM: (preset, dataset) -> `Preset`."""

from tfobj.models.rnem.presets import PAPER_TRAIN, QUICK, QUICK_TRAIN
from tfobj.models.settings import QUICK_DATA, QUICK_EVAL, Preset

PRESETS = {
    ("quick", "bouncing_balls"): Preset(
        "The quick settings of R-NEM, for comparison.",
        model=QUICK,
        train=QUICK_TRAIN,
        eval=QUICK_EVAL,
        data=QUICK_DATA,
    ),
    ("paper", "bouncing_balls"): Preset(
        "RNN-EM as in van Steenkiste 2018, with the settings of R-NEM.",
        model={},
        train=PAPER_TRAIN,
        duration="a day on one GPU",
    ),
}
