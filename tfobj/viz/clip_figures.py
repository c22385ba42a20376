"""The figures of an evaluated run on clips: strips of frames, animations, and predictions beside what came."""

import pathlib

import numpy as np

from tfobj.data.pipeline import evaluation_batches
from tfobj.metrics.video import frame_mean_squared_error, frame_rand_index
from tfobj.viz import canvas
from tfobj.viz.video import animation_frames, filmstrip_figure, prediction_figure, save_animation

NUM_ANIMATED = 3


def draw(out, split, evaluator, scenes, facts, num_shown, num_observed=None):
    """Draws the first clips of a split to `<out>/figures`.

    Args:
      out: folder of the results.
      split: its name.
      evaluator: `training.evaluation.Evaluator`.
      scenes: `SceneArrays` of clips.
      facts: what `evaluation.json` holds besides scores.
      num_shown: strips; of the first three there are animations as well.
      num_observed: frames after which the model predicts, in another strip and animation; None: no prediction.
    """
    figures = pathlib.Path(out) / "figures"
    scenes = scenes.take(min(num_shown, len(scenes)))
    title = f"{facts['model']}, {split}, step {facts['step']:,}"
    for i, clip in enumerate(_clips(evaluator, scenes)):
        canvas.save_figure(
            filmstrip_figure(**clip, scores=_scores(clip), title=f"{title}, clip {i}"),
            figures / f"filmstrip_{split}_{i}.png",
        )
        if i < NUM_ANIMATED:
            save_animation(animation_frames(**clip, title=title), figures / f"clip_{split}_{i}.gif")
    if num_observed:
        for i, clip in enumerate(
            _clips(evaluator, scenes.take(min(NUM_ANIMATED, len(scenes))), num_observed)
        ):
            shown = {name: clip[name] for name in ("image", "recon", "masks", "true_mask")}
            canvas.save_figure(
                prediction_figure(
                    **shown,
                    scores=_scores(clip),
                    num_observed=num_observed,
                    title=f"{title}, clip {i}",
                ),
                figures / f"prediction_{split}_{i}.png",
            )
            save_animation(
                animation_frames(**clip, num_observed=num_observed, title=title),
                figures / f"prediction_{split}_{i}.gif",
            )


def _scores(clip):
    """Returns the scores of every frame of a clip, {name: [T]}."""
    scores = {"mse": frame_mean_squared_error(clip["image"][None], clip["recon"][None])[0]}
    if clip["true_mask"] is not None:
        scores["fg-ARI"] = frame_rand_index(
            clip["true_mask"][None], clip["masks"][None], foreground_only=True
        )[0]
    return scores


def _clips(evaluator, scenes, num_observed=None):
    """Yields image, recon, masks, slot_recons and true_mask of clip after clip, [T, ...]; from `num_observed` frames on predicted."""
    for i, batch in enumerate(evaluation_batches(scenes, 1)):
        image = batch["image"]
        if num_observed:
            outputs = evaluator.forecast(
                image[:, :num_observed], image.shape[1] - num_observed, first_scene=i
            )
        else:
            outputs = evaluator.forward(image, first_scene=i)
        mask = batch.get("mask")
        yield {
            "image": image[0],
            **{
                name: np.asarray(getattr(outputs, name))[0]
                for name in ("recon", "masks", "slot_recons")
            },
            "true_mask": None if mask is None else mask[0],
        }
