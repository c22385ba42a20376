"""Figures of a run while it trains; an action of `tfobj.training.loop.train`."""

import pathlib

from tfobj.data.pipeline import evaluation_batches
from tfobj.training.workdir import read_metrics
from tfobj.viz import canvas, curves, panels

NUM_SCENES = 6


def save_figures(evaluation):
    """Draws the first validation scenes and the learning curves to `<workdir>/figures` and TensorBoard."""
    figures = pathlib.Path(evaluation.workdir) / "figures"
    batch = next(evaluation_batches(evaluation.scenes, evaluation.evaluator.batch_size))
    image, mask = batch["image"], batch.get("mask")
    outputs = evaluation.evaluator.forward(image)
    shown = slice(0, NUM_SCENES)
    figure = panels.decomposition_figure(
        image[shown], outputs.recon.numpy()[shown], outputs.masks.numpy()[shown], outputs.slot_recons.numpy()[shown],
        None if mask is None else mask[shown], title=f"step {evaluation.step:,}")
    canvas.save_figure(figure, figures / "decomposition.png")
    evaluation.writer.image(evaluation.step, "validation", "decomposition", canvas.figure_to_array(figure))
    rows = read_metrics(evaluation.workdir)
    if sum(row["split"] == "train" for row in rows) > 1:
        canvas.save_figure(curves.learning_curve_figure(rows), figures / "learning_curves.png")
