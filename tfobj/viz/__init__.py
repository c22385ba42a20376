"""Figures and reports from plain arrays; knows no model.

| question | function |
|---|---|
| what does every slot hold? | `decomposition_figure`, `masks_grid` |
| how does inference proceed? | `refinement_strip`, `stick_breaking_figure` |
| what does a latent stand for? | `traversal_figure` |
| how does training proceed? | `learning_curve_figure` |
| all of it on one page | `write_report` |

`save_figure` writes files atomically, `figure_to_array` feeds TensorBoard. No pyplot, no global state.
"""

from tfobj.viz.canvas import figure_to_array, figure_to_png, save_figure
from tfobj.viz.curves import learning_curve_figure
from tfobj.viz.palette import SLOT_COLOURS, checkerboard, render_segmentation, render_true_mask, slot_colours
from tfobj.viz.panels import decomposition_figure, masks_grid, refinement_strip
from tfobj.viz.report import worst_first, write_report
from tfobj.viz.stick_breaking import stick_breaking_figure
from tfobj.viz.traversal import traversal_figure

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
    "stick_breaking_figure",
    "traversal_figure",
    "worst_first",
    "write_report",
]
