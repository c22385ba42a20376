"""Figures of a run while it trains; an action of `tfobj.training.loop.train`."""

import pathlib

from tfobj.viz import canvas, curves, panels
from tfobj.training.writers import read_metrics

NUM_SCENES = 6


def save_figures(evaluation):
    """Draws the first validation scenes and the learning curves to `<workdir>/figures` and TensorBoard."""
    figures = pathlib.Path(evaluation.workdir) / "figures"
    batch = evaluation.scenes.take(min(evaluation.evaluator.batch_size, len(evaluation.scenes)))
    image = batch.image.astype("float32") / 255.0
    outputs = evaluation.evaluator.forward(image)
    shown = slice(0, NUM_SCENES)
    figure = panels.decomposition_figure(
        image[shown], outputs.recon.numpy()[shown], outputs.masks.numpy()[shown], outputs.slot_recons.numpy()[shown],
        None if batch.mask is None else batch.mask[shown], title=f"step {evaluation.step:,}")
    canvas.save_figure(figure, figures / "decomposition.png")
    evaluation.writer.image(evaluation.step, "validation", "decomposition", canvas.figure_to_array(figure))
    rows = read_metrics(evaluation.workdir)
    if sum(row["split"] == "train" for row in rows) > 1:
        canvas.save_figure(curves.learning_curve_figure(rows), figures / "learning_curves.png")
