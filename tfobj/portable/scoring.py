"""ARI, FG-ARI and MSE of a forward pass on a host without TensorFlow.

It needs NumPy alone; the other scores need the run's return.
"""

import numpy as np

from tfobj.data.pipeline import evaluation_batches
from tfobj.metrics import clustering, scene_scores, video
from tfobj.metrics.scores import summarise


def score(forward, scenes, batch_size, seed):
    """Scores all scenes, each by itself, and averages.

    The numbers are those of `launch/evaluate.py` under the same names.

    Args:
      forward: function of (image float32 [B, (T,) H, W, C], seed int32 [3]) that returns (masks
        [B, (T,) K, H, W, 1], recon [B, (T,) H, W, C]).
      scenes: `SceneArrays`; without masks there is the reconstruction error alone.
      batch_size: B.
      seed: of the inference noise; scene i draws the same noise whatever the batch size.

    Returns:
      dict: num_scenes, failed_scenes, and for mse, fg_ari and ari, and those of clips by frame
      and by length, the mean over scenes, `<name>_std`, `undefined_<name>` if some are left out,
      and `failed_<name>` if some count with the worst value because the model's outputs are not
      finite.
    """
    columns = []
    failed_columns = []
    failed_scenes = []
    for number, batch in enumerate(evaluation_batches(scenes, batch_size)):
        masks, recon = forward(batch["image"], np.array([seed, 0, number * batch_size], np.int32))
        found = _score_batch(masks, recon, batch["image"], batch.get("mask"))
        valid = batch["valid"]
        columns.append({name: values[valid] for name, values in found.values.items()})
        failed_columns.append({name: values[valid] for name, values in found.failed.items()})
        finite = scene_scores.finite_scenes(masks) & scene_scores.finite_scenes(recon)
        failed_scenes.append(~finite[valid])

    def join(batches):
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    return summarise(join(columns), join(failed_columns), np.concatenate(failed_scenes))


def _score_batch(masks, recon, image, true):
    """Returns the `scene_scores.Columns` of one batch, without labels of the error alone."""
    columns = scene_scores.error_columns(image, recon, video.PREFIXES)
    if true is None:
        return columns

    segments = clustering.segment_ids(masks)
    lost = segments == clustering.NO_SLOT
    failed = lost.any((-2, -1))
    tables = clustering.contingency_table(
        true,
        np.where(lost, 0, segments),
        num_predicted=masks.shape[-4],
        level="sequence" if true.ndim == 3 else "frame",
    )
    if true.ndim == 4:
        columns |= scene_scores.frame_columns(tables, failed, np.nan, video.PREFIXES)
        tables = tables.sum(1)
        failed = failed.any(1)

    index = clustering.adjusted_rand_index_from_table
    scores = {"fg_ari": index(tables, foreground_only=True), "ari": index(tables)}
    return columns | scene_scores.with_worst(scores, failed)
