"""Figures of a run while it trains; an action of `tfobj.training.loop.train`."""

import pathlib

from tfobj.data.pipeline import evaluation_batches
from tfobj.training.workdir import read_metrics
from tfobj.viz import canvas, curves, panels
from tfobj.viz.video import filmstrip_figure

NUM_SCENES = 6


def save_figures(evaluation):
    """Draws the first validation scenes, or the first clip, and the learning curves to `<workdir>/figures` and TensorBoard."""
    figures = pathlib.Path(evaluation.workdir) / "figures"
    batch = next(evaluation_batches(evaluation.scenes, evaluation.evaluator.batch_size))
    image, mask = batch["image"], batch.get("mask")
    outputs = evaluation.evaluator.forward(image)
    shown = slice(0, NUM_SCENES)
    pictures = [
        image,
        outputs.recon.numpy(),
        outputs.masks.numpy(),
        outputs.slot_recons.numpy(),
        mask,
    ]
    if image.ndim == 5:
        figure = filmstrip_figure(
            *(None if x is None else x[0] for x in pictures), title=f"step {evaluation.step:,}"
        )
    else:
        figure = panels.decomposition_figure(
            *(None if x is None else x[shown] for x in pictures), title=f"step {evaluation.step:,}"
        )
    canvas.save_figure(figure, figures / "decomposition.png")
    evaluation.writer.image(
        evaluation.step, "validation", "decomposition", canvas.figure_to_array(figure)
    )
    rows = read_metrics(evaluation.workdir)
    if sum(row["split"] == "train" for row in rows) > 1:
        canvas.save_figure(curves.learning_curve_figure(rows), figures / "learning_curves.png")
