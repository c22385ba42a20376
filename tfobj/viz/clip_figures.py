"""The figures of a run evaluated on video clips: strips of frames, animations and predictions."""

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
      split: name of the split.
      evaluator: `training.evaluation.Evaluator`.
      scenes: `SceneArrays` of clips.
      facts: the entries of `evaluation.json` besides scores.
      num_shown: number of strips; the first three clips get animations as well.
      num_observed: number of frames after which the model predicts, shown in another strip and
        animation; None: no prediction.
    """
    figures = pathlib.Path(out) / "figures"
    scenes = scenes.take(min(num_shown, len(scenes)))
    title = f"{facts['model']}, {split}, step {facts['step']:,}"
    for i, clip in enumerate(_clips(evaluator, scenes)):
        figure = filmstrip_figure(**clip, scores=_scores(clip), title=f"{title}, clip {i}")
        canvas.save_figure(figure, figures / f"filmstrip_{split}_{i}.png")
        if i < NUM_ANIMATED:
            save_animation(animation_frames(**clip, title=title), figures / f"clip_{split}_{i}.gif")
    if not num_observed:
        return

    scenes = scenes.take(min(NUM_ANIMATED, len(scenes)))
    for i, clip in enumerate(_clips(evaluator, scenes, num_observed)):
        figure = prediction_figure(
            clip["image"],
            clip["recon"],
            clip["masks"],
            clip["true_mask"],
            scores=_scores(clip),
            num_observed=num_observed,
            title=f"{title}, clip {i}",
        )
        canvas.save_figure(figure, figures / f"prediction_{split}_{i}.png")
        frames = animation_frames(**clip, num_observed=num_observed, title=title)
        save_animation(frames, figures / f"prediction_{split}_{i}.gif")


def _scores(clip):
    """Returns the scores of every frame of a clip, {name: [T]}."""
    scores = {"mse": frame_mean_squared_error(clip["image"][None], clip["recon"][None])[0]}
    if clip["true_mask"] is not None:
        scores["fg-ARI"] = frame_rand_index(
            clip["true_mask"][None], clip["masks"][None], foreground_only=True
        )[0]
    return scores


def _clips(evaluator, scenes, num_observed=None):
    """Yields the arrays of one clip after the other, as arguments of `filmstrip_figure`.

    With `num_observed`, the model predicts all frames after that many.
    """
    for i, batch in enumerate(evaluation_batches(scenes, 1)):
        image = batch["image"]
        # The index of a scene decides its noise.
        if num_observed:
            num_predicted = image.shape[1] - num_observed
            outputs = evaluator.forecast(image[:, :num_observed], num_predicted, first_scene=i)
        else:
            outputs = evaluator.forward(image, first_scene=i)

        mask = batch.get("mask")
        yield {
            "image": image[0],
            "recon": np.asarray(outputs.recon)[0],
            "masks": np.asarray(outputs.masks)[0],
            "slot_recons": np.asarray(outputs.slot_recons)[0],
            "true_mask": None if mask is None else mask[0],
        }
