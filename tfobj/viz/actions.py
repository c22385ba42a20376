"""Figures of a run during training, drawn by an action of `tfobj.training.loop.train`."""

import pathlib

from tfobj.data.pipeline import evaluation_batches
from tfobj.training.workdir import read_metrics
from tfobj.viz import canvas, curves, panels
from tfobj.viz.video import filmstrip_figure

NUM_SCENES = 6


def save_figures(evaluation):
    """Draws the first validation scenes (or the first clip) and the learning curves.

    Figures go to `<workdir>/figures`; the decomposition goes to TensorBoard as well.
    """
    figures = pathlib.Path(evaluation.workdir) / "figures"
    batch = next(evaluation_batches(evaluation.scenes, evaluation.evaluator.batch_size))
    image = batch["image"]
    outputs = evaluation.evaluator.forward(image)
    pictures = {
        "image": image,
        "recon": outputs.recon.numpy(),
        "masks": outputs.masks.numpy(),
        "slot_recons": outputs.slot_recons.numpy(),
    }
    if "mask" in batch:
        pictures["true_mask"] = batch["mask"]

    title = f"step {evaluation.step:,}"
    if image.ndim == 5:
        clip = {name: values[0] for name, values in pictures.items()}
        figure = filmstrip_figure(**clip, title=title)
    else:
        shown = {name: values[:NUM_SCENES] for name, values in pictures.items()}
        figure = panels.decomposition_figure(**shown, title=title)
    canvas.save_figure(figure, figures / "decomposition.png")
    evaluation.writer.image(
        evaluation.step, "validation", "decomposition", canvas.figure_to_array(figure)
    )

    # A single point makes no curve.
    rows = read_metrics(evaluation.workdir)
    if sum(row["split"] == "train" for row in rows) > 1:
        canvas.save_figure(curves.learning_curve_figure(rows), figures / "learning_curves.png")
