"""The figures and the report of an evaluated run."""

import pathlib

import numpy as np
import tensorflow as tf

from tfobj import random
from tfobj.data.pipeline import evaluation_batches
from tfobj.metrics.health import diagnose
from tfobj.viz import canvas, panels, report
from tfobj.viz.stick_breaking import stick_breaking_figure
from tfobj.viz.traversal import slot_to_traverse, traversal_figure

STICK_BREAKING_SCENES = 2


def draw(out, split, suffix, evaluator, scenes, table, summary, facts, experiment, num_shown=8):
    """Draws the first scenes, how the model came to them, a traversal of the first one, and the worst scenes of an evaluation.

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
    more = []
    for name, caption, figure in _figures_of_inference(evaluator, scenes, first, title):
        canvas.save_figure(figure, figures / f"{name}_{split}.png")
        more.append((caption, figures / f"{name}_{split}.png"))
    order, _ = report.worst_first(table)
    worst = _decompose(evaluator, scenes, order[:num_shown])
    health = evaluator.health(next(evaluation_batches(scenes, evaluator.batch_size))["image"])
    report.write_report(
        pathlib.Path(out) / f"report{suffix}.html", title=title, summary=summary, protocol=facts["protocol"], table=table, scenes=worst,
        figures=more, config=experiment.to_dict(),
        warnings=diagnose(health, num_slots=facts["num_slots"], step=facts["step"]))


def _figures_of_inference(evaluator, scenes, first, title):
    """Yields (name, caption, figure) of the ways into the model that it has."""
    image, true_mask = first["image"], first["true_mask"]
    history = refinement_history(evaluator, image[:1])
    if history is not None:
        strip = panels.refinement_strip(history, image=image[:1], true_mask=None if true_mask is None else true_mask[:1], title=title)
        yield "refinement", "Refinement of the first scene.", strip
    sticks = stick_breaking_steps(evaluator, image[:STICK_BREAKING_SCENES])
    if sticks is not None:
        yield "stick_breaking", "How the first scenes are taken apart.", stick_breaking_figure(**sticks, title=title)
    latents = posterior_means(evaluator, next(evaluation_batches(scenes, evaluator.batch_size)))
    if latents is not None:
        slot = slot_to_traverse(latents["kl"][0], first["masks"][0], None if true_mask is None else true_mask[0])
        figure = traversal_figure(**latents, decode=lambda slots: evaluator.model.decode(tf.constant(slots)), slot=slot, title=title)
        yield "traversal", "The most informative latents of one slot of the first scene.", figure


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


def stick_breaking_steps(evaluator, image):
    """Returns {"image", "scopes", "masks", "slot_recons"} of images [B, H, W, C], or None for a model that breaks no sticks."""
    steps = {"scopes": [], "masks": [], "slot_recons": []}
    for i in range(len(image)):
        outputs = evaluator.forward(image[i : i + 1], first_scene=i)
        if not outputs.history or "stick_masks" not in outputs.history:
            return None
        for name, value in (("scopes", outputs.history["scopes"]), ("masks", outputs.history["stick_masks"]), ("slot_recons", outputs.slot_recons)):
            steps[name].append(value.numpy())
    return {"image": image, **{name: np.concatenate(values) for name, values in steps.items()}}


def posterior_means(evaluator, batch):
    """Returns {"image", "slots" [B, K, D], "kl" [B, K, d]} of a batch, or None for a model whose slots have no prior.

    Where a model tells the KL of whole slots alone, that of their latents is taken to N(0, 1), which orders them.
    """
    if not evaluator.model.has_prior:
        return None
    outputs = evaluator.forward(batch["image"])
    kl = outputs.posterior["kl"].numpy()
    if kl.ndim == 2:
        loc, scale = outputs.posterior["loc"].numpy(), outputs.posterior["scale"].numpy()
        kl = 0.5 * (loc**2 + scale**2 - 1.0) - np.log(scale)
    valid = batch["valid"]
    return {"image": batch["image"][valid], "slots": outputs.slots.numpy()[valid], "kl": kl[valid]}


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
