"""The figures and the report of an evaluated run."""

import pathlib

import numpy as np

from tfobj import random
from tfobj.data.pipeline import evaluation_batches
from tfobj.metrics.health import diagnose
from tfobj.viz import canvas, panels, report


def draw(out, split, suffix, evaluator, scenes, table, summary, facts, experiment, num_shown=8):
    """Draws the first scenes, the refinement of the first one, and the worst scenes of an evaluation.

    Args:
      out: folder; figures go to its subfolder `figures`.
      split, suffix: name of the split, and what to add to the report's file name.
      evaluator: `training.evaluation.Evaluator`.
      scenes: `SceneArrays` of the split.
      table: per-scene table of the `SceneScorer`.
      summary, facts: what `evaluation.json` holds.
      experiment: `ExperimentConfig`, printed in the report.
      num_shown: scenes per figure.
    """
    figures = pathlib.Path(out) / "figures"
    first = _decompose(evaluator, scenes, np.arange(min(num_shown, len(scenes))))
    index = first.pop("index")
    title = f"{facts['model']}, {split}, step {facts['step']:,}"
    canvas.save_figure(panels.decomposition_figure(**first, scores=_scores(table, index), title=title), figures / f"decomposition_{split}.png")
    history = refinement_history(evaluator, first["image"][:1])
    strip = None
    if history is not None:
        strip = figures / f"refinement_{split}.png"
        true_mask = None if first["true_mask"] is None else first["true_mask"][:1]
        canvas.save_figure(panels.refinement_strip(history, image=first["image"][:1], true_mask=true_mask, title=title), strip)
    order, _ = report.worst_first(table)
    worst = _decompose(evaluator, scenes, order[:num_shown])
    health = evaluator.health(next(evaluation_batches(scenes, evaluator.batch_size))["image"])
    report.write_report(
        pathlib.Path(out) / f"report{suffix}.html", title=title, summary=summary, protocol=facts["protocol"], table=table, scenes=worst,
        figures=[("Refinement of the first scene.", strip)] if strip else [], config=experiment.to_dict(),
        warnings=diagnose(health, num_slots=facts["num_slots"], step=facts["step"]))


def refinement_history(evaluator, image):
    """Returns {"recon", "masks", ("loss")} of [1, R, ...] for one image [1, H, W, C], or None for a model without steps.

    Models that keep no history of masks are run once with every number of steps up to their own, same noise.
    """
    model = evaluator.model
    seed = random.make_seed(evaluator.seed)
    outputs = model(image, seed=seed)
    if outputs.history and "masks" in outputs.history:
        return {name: value.numpy() for name, value in outputs.history.items()}
    if not model.has_steps:
        return None
    runs = [model(image, num_steps=r, seed=seed) for r in range(1, model.config.num_steps + 1)]
    return {"recon": np.stack([r.recon.numpy() for r in runs], 1), "masks": np.stack([r.masks.numpy() for r in runs], 1)}


def _decompose(evaluator, scenes, rows):
    """Decomposes the scenes `rows` with the noise that they were scored with; arguments of `decomposition_figure`, and `index`."""
    pictures = {"image": [], "recon": [], "masks": [], "slot_recons": []}
    for row in rows:
        image = scenes.image[row : row + 1].astype(np.float32) / np.float32(255)
        outputs = evaluator.forward(image, first_scene=int(row))
        for name, value in (("image", image), ("recon", outputs.recon), ("masks", outputs.masks), ("slot_recons", outputs.slot_recons)):
            pictures[name].append(np.asarray(value))
    pictures = {name: np.concatenate(values) for name, values in pictures.items()}
    return {**pictures, "true_mask": None if scenes.mask is None else scenes.mask[rows], "index": np.asarray(rows)}


def _scores(table, index):
    return {"fg_ari": table["fg_ari"][index]} if "fg_ari" in table else None
