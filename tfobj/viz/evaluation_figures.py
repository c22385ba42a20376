"""The figures and the report of an evaluated run."""

import pathlib

import numpy as np
import tensorflow as tf

from tfobj import random
from tfobj.data.pipeline import evaluation_batches
from tfobj.metrics.health import diagnose
from tfobj.viz import canvas, panels, report
from tfobj.viz.layers import layers_figure
from tfobj.viz.samples import samples_figure
from tfobj.viz.stick_breaking import stick_breaking_figure
from tfobj.viz.traversal import slot_to_traverse, traversal_figure

STICK_BREAKING_SCENES = 2
SAMPLES = 16
"""Scenes drawn from the prior."""


def draw(out, split, suffix, evaluator, scenes, table, summary, facts, experiment, num_shown=8):
    """Draws the first scenes and what the model knows of them: its way there, complete objects, a traversal, samples; and the worst scenes.

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
    layers = first.pop("layers")
    canvas.save_figure(
        panels.decomposition_figure(**first, scores=_scores(table, index), title=title),
        figures / f"decomposition_{split}.png",
    )
    more = []
    for name, caption, figure in _more_figures(evaluator, scenes, first, layers, title):
        canvas.save_figure(figure, figures / f"{name}_{split}.png")
        more.append((caption, figures / f"{name}_{split}.png"))
    order, _ = report.worst_first(table)
    worst = _decompose(evaluator, scenes, order[:num_shown])
    worst.pop("layers")
    health = evaluator.health(next(evaluation_batches(scenes, evaluator.batch_size))["image"])
    report.write_report(
        pathlib.Path(out) / f"report{suffix}.html",
        title=title,
        summary=summary,
        protocol=facts["protocol"],
        table=table,
        scenes=worst,
        figures=more,
        config=experiment.to_dict(),
        warnings=diagnose(health, num_slots=facts["num_slots"], step=facts["step"]),
    )


def _more_figures(evaluator, scenes, first, layers, title):
    """Yields (name, caption, figure) of what the model has: complete objects, ways of inference, latents, a prior."""
    image, true_mask = first["image"], first["true_mask"]
    if layers is not None:
        figure = layers_figure(
            **first, **layers, background=evaluator.model.background_slot, title=title
        )
        yield (
            "layers",
            "The complete objects of the first scenes, hidden parts included, from near to far.",
            figure,
        )
    history = refinement_history(evaluator, image[:1])
    if history is not None:
        strip = panels.refinement_strip(
            history,
            image=image[:1],
            true_mask=None if true_mask is None else true_mask[:1],
            title=title,
        )
        yield "refinement", "Refinement of the first scene.", strip
    sticks = stick_breaking_steps(evaluator, image[:STICK_BREAKING_SCENES])
    if sticks is not None:
        yield (
            "stick_breaking",
            "How the first scenes are taken apart.",
            stick_breaking_figure(**sticks, title=title),
        )
    latents = posterior_means(evaluator, next(evaluation_batches(scenes, evaluator.batch_size)))
    if latents is not None:
        slot = slot_to_traverse(
            latents["kl"][0], first["masks"][0], None if true_mask is None else true_mask[0]
        )
        figure = traversal_figure(
            **latents,
            decode=lambda slots: evaluator.model.decode(tf.constant(slots)),
            slot=slot,
            title=title,
        )
        yield "traversal", "The most informative latents of one slot of the first scene.", figure
    if evaluator.model.has_prior:
        drawn = evaluator.model.sample(SAMPLES, random.make_seed(evaluator.seed))
        yield (
            "samples",
            f"{SAMPLES} scenes drawn from the prior.",
            samples_figure(drawn.recon, title=f"{title}: samples"),
        )


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
    return {
        "recon": np.stack([r.recon.numpy() for r in runs], 1),
        "masks": np.stack([r.masks.numpy() for r in runs], 1),
    }


def stick_breaking_steps(evaluator, image):
    """Returns {"image", "scopes", "masks", "slot_recons"} of images [B, H, W, C], or None for a model that breaks no sticks."""
    steps = {"scopes": [], "masks": [], "slot_recons": []}
    for i in range(len(image)):
        outputs = evaluator.forward(image[i : i + 1], first_scene=i)
        if not outputs.history or "stick_masks" not in outputs.history:
            return None
        for name, value in (
            ("scopes", outputs.history["scopes"]),
            ("masks", outputs.history["stick_masks"]),
            ("slot_recons", outputs.slot_recons),
        ):
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
    """Decomposes the scenes `rows` with the noise that they were scored with.

    Returns:
      dict: the arguments of `decomposition_figure`; `index`; and `layers`, the other arguments of `layers_figure`, or None for a
      model that knows no hidden parts.
    """
    pictures = {"image": [], "recon": [], "masks": [], "slot_recons": []}
    extents = []
    for row in rows:
        image = scenes.image[row : row + 1].astype(np.float32) / np.float32(255)
        outputs = evaluator.forward(image, first_scene=int(row))
        for name, value in (
            ("image", image),
            ("recon", outputs.recon),
            ("masks", outputs.masks),
            ("slot_recons", outputs.slot_recons),
        ):
            pictures[name].append(np.asarray(value))
        extents.append(outputs.extents())
    joined = {name: np.concatenate(values) for name, values in pictures.items()}
    layers = {name: np.concatenate([found[name] for found in extents]) for name in extents[0]}
    return {
        **joined,
        "true_mask": None if scenes.mask is None else scenes.mask[rows],
        "index": np.asarray(rows),
        "layers": layers if "amodal_masks" in layers else None,
    }


def _scores(table, index):
    return {"fg_ari": table["fg_ari"][index]} if "fg_ari" in table else None
