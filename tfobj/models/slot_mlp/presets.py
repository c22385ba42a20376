"""Hyperparameters of Slot MLP: (preset, dataset) -> `Preset`.

They are those of Slot Attention, with one iteration.
"""

from tfobj.models.base import Preset
from tfobj.models.slot_attention.presets import CLEVR6, PAPER_TRAIN, QUICK, QUICK_TRAIN

PRESETS = {
    ("quick", "tetris"): Preset(
        "The quick settings of Slot Attention, for comparison.",
        model={"num_slots": 4, "decoder_grid": (18, 18), **QUICK},
        train=QUICK_TRAIN,
    ),
    ("paper", "tetris"): Preset(
        "Slot MLP on Tetrominoes, our layer sizes: Locatello 2020 reports fg-ARI 25.1 +- 34.3.",
        model={"num_slots": 4},
        train=PAPER_TRAIN,
    ),
    ("paper", "multi_dsprites"): Preset(
        "Slot MLP on Multi-dSprites, our layer sizes: Locatello 2020 reports fg-ARI 60.3 +- 1.8.",
        model={"num_slots": 6},
        train=PAPER_TRAIN,
    ),
    ("paper", "clevr_with_masks"): Preset(
        "Slot MLP on CLEVR6, our layer sizes: Locatello 2020 reports fg-ARI 60.4 +- 6.6.",
        model=CLEVR6,
        train=PAPER_TRAIN,
    ),
}
