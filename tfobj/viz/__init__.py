"""Figures and reports from plain arrays; knows no model.

| question | function |
|---|---|
| what does every slot hold? | `decomposition_figure`, `masks_grid` |
| how does inference proceed? | `refinement_strip` |
| how does training proceed? | `learning_curve_figure` |
| all of it on one page | `write_report` |

`save_figure` writes files atomically, `figure_to_array` feeds TensorBoard. No pyplot, no global state.
"""

from tfobj.viz.canvas import figure_to_array, figure_to_png, save_figure
from tfobj.viz.curves import learning_curve_figure
from tfobj.viz.palette import SLOT_COLOURS, checkerboard, render_segmentation, render_true_mask, slot_colours
from tfobj.viz.panels import decomposition_figure, masks_grid, refinement_strip
from tfobj.viz.report import worst_first, write_report

__all__ = [
    "SLOT_COLOURS",
    "checkerboard",
    "decomposition_figure",
    "figure_to_array",
    "figure_to_png",
    "learning_curve_figure",
    "masks_grid",
    "refinement_strip",
    "render_segmentation",
    "render_true_mask",
    "save_figure",
    "slot_colours",
    "worst_first",
    "write_report",
]
