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
state. Importing this package loads nothing heavy; Matplotlib comes with the first figure.
"""

from tfobj import lazy

_PUBLIC = {
    "SLOT_COLOURS": "palette",
    "checkerboard": "palette",
    "decomposition_figure": "panels",
    "edits_figure": "editing",
    "figure_to_array": "canvas",
    "figure_to_png": "canvas",
    "layers_figure": "layers",
    "learning_curve_figure": "curves",
    "masks_grid": "panels",
    "refinement_strip": "panels",
    "render_masks": "palette",
    "render_segmentation": "palette",
    "render_true_mask": "palette",
    "samples_figure": "samples",
    "save_figure": "canvas",
    "slot_colours": "palette",
    "slots_figure": "editing",
    "stick_breaking_figure": "stick_breaking",
    "traversal_figure": "traversal",
    "truth_figure": "truth",
    "worst_first": "report",
    "write_report": "report",
}
_MODULES = (
    "canvas",
    "curves",
    "editing",
    "layers",
    "palette",
    "panels",
    "report",
    "report_page",
    "samples",
    "stick_breaking",
    "traversal",
    "truth",
)
__all__ = list(_PUBLIC)

__getattr__, __dir__ = lazy.names(__name__, _PUBLIC, _MODULES)
