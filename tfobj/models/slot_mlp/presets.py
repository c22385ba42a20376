"""Hyperparameters of Slot MLP: (preset, dataset) -> `Preset`.

They are those of Slot Attention, with one iteration.
"""

from tfobj.models.settings import Preset
from tfobj.models.slot_attention.presets import CLEVR6, PAPER_TRAIN, QUICK, QUICK_TRAIN

PRESETS = {
    ("quick", "tetris"): Preset(
        "The quick settings of Slot Attention, for comparison.",
        model={"num_slots": 4, "decoder_grid": (18, 18), **QUICK},
        train=QUICK_TRAIN,
    ),
    ("paper", "tetris"): Preset(
        "Slot MLP on Tetrominoes, our layer sizes: Locatello 2020 reports fg-ARI 0.251 +- 0.343.",
        model={"num_slots": 4},
        train=PAPER_TRAIN,
    ),
    ("paper", "multi_dsprites"): Preset(
        "Slot MLP on Multi-dSprites, our layer sizes: Locatello 2020 reports fg-ARI 0.603 +- "
        "0.018.",
        model={"num_slots": 6},
        train=PAPER_TRAIN,
    ),
    ("paper", "clevr_with_masks"): Preset(
        "Slot MLP on CLEVR6, our layer sizes: Locatello 2020 reports fg-ARI 0.604 +- 0.066.",
        model=CLEVR6,
        train=PAPER_TRAIN,
    ),
}
