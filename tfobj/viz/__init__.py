"""Figures and reports from plain arrays; knows no model.

| question | function |
|---|---|
| What is in a data set? | `truth_figure` |
| What does every slot hold? | `decomposition_figure`, `masks_grid` |
| What happens over a video clip? | `video.filmstrip_figure`, `video.animation_frames` |
| How does inference proceed? | `refinement_strip`, `stick_breaking_figure` |
| Which objects lie behind others? | `layers_figure` |
| What does a latent encode? | `traversal_figure` |
| What do edits do? | `slots_figure`, `edits_figure` |
| What do samples from the prior look like? | `samples_figure` |
| How does training proceed? | `learning_curve_figure` |
| All of these on one page | `write_report` |

`save_figure` writes files atomically, `figure_to_array` feeds TensorBoard. No pyplot, no global
state.
"""

from tfobj.viz.canvas import figure_to_array, figure_to_png, save_figure
from tfobj.viz.curves import learning_curve_figure
from tfobj.viz.editing import edits_figure, slots_figure
from tfobj.viz.layers import layers_figure
from tfobj.viz.palette import (
    SLOT_COLOURS,
    checkerboard,
    render_masks,
    render_segmentation,
    render_true_mask,
    slot_colours,
)
from tfobj.viz.panels import decomposition_figure, masks_grid, refinement_strip
from tfobj.viz.report import worst_first, write_report
from tfobj.viz.samples import samples_figure
from tfobj.viz.stick_breaking import stick_breaking_figure
from tfobj.viz.traversal import traversal_figure
from tfobj.viz.truth import truth_figure

__all__ = [
    "SLOT_COLOURS",
    "checkerboard",
    "decomposition_figure",
    "edits_figure",
    "figure_to_array",
    "figure_to_png",
    "layers_figure",
    "learning_curve_figure",
    "masks_grid",
    "refinement_strip",
    "render_masks",
    "render_segmentation",
    "render_true_mask",
    "samples_figure",
    "save_figure",
    "slot_colours",
    "slots_figure",
    "stick_breaking_figure",
    "traversal_figure",
    "truth_figure",
    "worst_first",
    "write_report",
]
