"""The figures and the report of an evaluated run."""

import pathlib

import numpy as np
import tensorflow as tf

from tfobj import random
from tfobj.data.pipeline import evaluation_batches
from tfobj.metrics.health import diagnose
from tfobj.viz import canvas, panels, report
from tfobj.viz.curves import learning_curve_figure
from tfobj.viz.layers import layers_figure
from tfobj.viz.samples import samples_figure
from tfobj.viz.stick_breaking import stick_breaking_figure
from tfobj.viz.traversal import slot_to_traverse, traversal_figure

STICK_BREAKING_SCENES = 2
SAMPLES = 16
"""Scenes drawn from the prior."""


def draw(
    out, split, suffix, evaluator, scenes, table, summary, facts, experiment, num_shown=8, rows=()
):
    """Draws the first scenes and everything the model knows about them, and writes the report.

    Args:
      out: folder; figures go to its subfolder `figures`.
      split, suffix: name of the split, and what to append to the report's file name.
      evaluator: `training.evaluation.Evaluator`.
      scenes: `SceneArrays` of the split.
      table: per-scene table of the `SceneScorer`.
      summary, facts: scores and other entries of `evaluation.json`.
      experiment: `ExperimentConfig`, printed in the report.
      num_shown: scenes per figure.
      rows: of the run's `metrics.jsonl`, for the learning curves in the report.
    """
    figures = pathlib.Path(out) / "figures"
    title = f"{facts['model']}, {split}, step {facts['step']:,}"
    first, layers = _decompose(evaluator, scenes, np.arange(min(num_shown, len(scenes))))
    index = first.pop("index")
    scores = {}
    if "fg_ari" in table:
        scores["fg_ari"] = table["fg_ari"][index]
    figure = panels.decomposition_figure(**first, scores=scores, title=title)
    canvas.save_figure(figure, figures / f"decomposition_{split}.png")

    more = []
    for name, caption, figure in _more_figures(evaluator, scenes, first, layers, title):
        path = canvas.save_figure(figure, figures / f"{name}_{split}.png")
        more.append((caption, path))

    if sum(row["split"] == "train" for row in rows) > 1:
        more.append(("Learning curves.", learning_curve_figure(rows)))
    order, _ = report.worst_first(table)
    chosen = {
        name: _decompose(evaluator, scenes, its_rows)[0]
        for name, its_rows in report.extremes(order).items()
    }
    health = evaluator.health(next(evaluation_batches(scenes, evaluator.batch_size))["image"])
    report.write_report(
        pathlib.Path(out) / f"report{suffix}.html",
        title=title,
        summary=summary,
        protocol=facts["protocol"],
        table=table,
        scenes=chosen,
        facts=facts,
        figures=more,
        config=experiment.to_dict(),
        warnings=diagnose(health, num_slots=facts["num_slots"], step=facts["step"]),
    )


def _more_figures(evaluator, scenes, first, layers, title):
    """Yields (name, caption, figure) for whatever the model offers besides a decomposition."""
    model = evaluator.model
    image = first["image"]
    true_mask = first["true_mask"]
    if layers is not None:
        caption = (
            "The complete objects of the first scenes, hidden parts included, from near to far."
        )
        figure = layers_figure(**first, **layers, background=model.background_slot, title=title)
        yield "layers", caption, figure

    history = refinement_history(evaluator, image[:1])
    if history is not None:
        figure = panels.refinement_strip(history, image=image, true_mask=true_mask, title=title)
        yield "refinement", "Refinement of the first scene.", figure

    sticks = stick_breaking_steps(evaluator, image[:STICK_BREAKING_SCENES])
    if sticks is not None:
        figure = stick_breaking_figure(**sticks, title=title)
        yield "stick_breaking", "How the first scenes are decomposed slot by slot.", figure

    latents = posterior_means(evaluator, next(evaluation_batches(scenes, evaluator.batch_size)))
    if latents is not None:
        true = None if true_mask is None else true_mask[0]
        figure = traversal_figure(
            **latents,
            decode=lambda slots: model.decode(tf.constant(slots)),
            slot=slot_to_traverse(latents["kl"][0], first["masks"][0], true),
            title=title,
        )
        yield "traversal", "The most informative latents of one slot of the first scene.", figure

    if model.has_prior:
        drawn = model.sample(SAMPLES, random.make_seed(evaluator.seed))
        figure = samples_figure(drawn.recon, title=f"{title}: samples")
        yield "samples", f"{SAMPLES} scenes drawn from the prior.", figure


def refinement_history(evaluator, image):
    """Returns the history of refinement of one image [1, H, W, C].

    Models that keep no history of masks are run once with every number of steps up to their own,
    always with the same noise.

    Returns:
      history: {"recon", "masks", ("loss")} of [1, R, ...]; None for a model without steps.
    """
    model = evaluator.model
    seed = random.make_seed(evaluator.seed)
    outputs = model(image, seed=seed)
    if outputs.history and "masks" in outputs.history:
        return {name: value.numpy() for name, value in outputs.history.items()}
    if not model.has_steps:
        return None

    steps = range(1, model.config.num_steps + 1)
    runs = [model(image, num_steps=num_steps, seed=seed) for num_steps in steps]
    return {
        "recon": np.stack([run.recon.numpy() for run in runs], 1),
        "masks": np.stack([run.masks.numpy() for run in runs], 1),
    }


def stick_breaking_steps(evaluator, image):
    """Returns the steps in which a stick-breaking model decomposes images [B, H, W, C].

    Returns:
      steps: {"image", "scopes", "masks", "slot_recons"}, arguments of `stick_breaking_figure`; None
        for other models.
    """
    scopes = []
    masks = []
    slot_recons = []
    for i in range(len(image)):
        # The index of a scene decides its noise: one at a time, figures show what was scored.
        outputs = evaluator.forward(image[i : i + 1], first_scene=i)
        if not outputs.history or "stick_masks" not in outputs.history:
            return None
        scopes.append(outputs.history["scopes"].numpy())
        masks.append(outputs.history["stick_masks"].numpy())
        slot_recons.append(outputs.slot_recons.numpy())
    return {
        "image": image,
        "scopes": np.concatenate(scopes),
        "masks": np.concatenate(masks),
        "slot_recons": np.concatenate(slot_recons),
    }


def posterior_means(evaluator, batch):
    """Returns posterior means and the KL of their latents for the valid scenes of a batch.

    Where a model reports only the KL of whole slots, that of their latents is computed against
    N(0, 1), which is enough to rank them.

    Returns:
      latents: {"image", "slots" [B, K, D], "kl" [B, K, d]}; None for a model whose slots have no
        prior.
    """
    if not evaluator.model.has_prior:
        return None

    outputs = evaluator.forward(batch["image"])
    kl = outputs.posterior["kl"].numpy()
    if kl.ndim == 2:
        loc = outputs.posterior["loc"].numpy()
        scale = outputs.posterior["scale"].numpy()
        kl = 0.5 * (loc**2 + scale**2 - 1.0) - np.log(scale)

    valid = batch["valid"]
    return {"image": batch["image"][valid], "slots": outputs.slots.numpy()[valid], "kl": kl[valid]}


def _decompose(evaluator, scenes, rows):
    """Decomposes the scenes `rows` with the noise that they were scored with.

    Returns:
      scenes: dict, the arguments of `decomposition_figure`, and `index`.
      layers: dict, the other arguments of `layers_figure`; None for a model without hidden parts.
    """
    pictures = {"image": [], "recon": [], "masks": [], "slot_recons": []}
    extents = []
    for row in rows:
        image = scenes.image[row : row + 1].astype(np.float32) / np.float32(255)
        outputs = evaluator.forward(image, first_scene=int(row))
        pictures["image"].append(image)
        for name in ("recon", "masks", "slot_recons"):
            pictures[name].append(np.asarray(getattr(outputs, name)))
        extents.append(outputs.extents())

    decomposed = {name: np.concatenate(values) for name, values in pictures.items()}
    decomposed["index"] = np.asarray(rows)
    decomposed["true_mask"] = None
    if scenes.mask is not None:
        decomposed["true_mask"] = scenes.mask[rows]

    # Either all scenes have extents or none: the model decides.
    layers = {name: np.concatenate([found[name] for found in extents]) for name in extents[0]}
    if "amodal_masks" not in layers:
        return decomposed, None
    return decomposed, layers
