"""ARI, FG-ARI and MSE of a forward pass on a host without TensorFlow.

It needs NumPy alone; the other scores need the run's return.
"""

import math

import numpy as np

from tfobj.data.pipeline import evaluation_batches
from tfobj.metrics import clustering, reconstruction


def score(forward, scenes, batch_size, seed):
    """Scores all scenes, each by itself, and averages.

    The numbers are those of `launch/evaluate.py` under the same names.

    Args:
      forward: function of (image float32 [B, H, W, C], seed int32 [3]) that returns (masks
        [B, K, H, W, 1], recon [B, H, W, C]).
      scenes: `SceneArrays`; without masks there is the reconstruction error alone.
      batch_size: B.
      seed: of the inference noise; scene i draws the same noise whatever the batch size.

    Returns:
      dict: num_scenes, and for mse, fg_ari and ari the mean over scenes, `<name>_std`, and
      `undefined_<name>` if some are left out.
    """
    columns = []
    for number, batch in enumerate(evaluation_batches(scenes, batch_size)):
        masks, recon = forward(batch["image"], np.array([seed, 0, number * batch_size], np.int32))
        scores = {"mse": reconstruction.mean_squared_error(batch["image"], recon)}
        if "mask" in batch:
            segments = clustering.segment_ids(masks)
            table = clustering.contingency_table(
                batch["mask"], segments, num_predicted=masks.shape[1]
            )
            index = clustering.adjusted_rand_index_from_table
            scores["fg_ari"] = index(table, foreground_only=True)
            scores["ari"] = index(table)
        columns.append({name: values[batch["valid"]] for name, values in scores.items()})

    summary = {"num_scenes": len(scenes)}
    for name in columns[0]:
        values = np.concatenate([column[name] for column in columns])
        # The ARI of a scene without objects is not defined.
        defined = values[~np.isnan(values)]
        summary[name] = math.nan
        summary[f"{name}_std"] = math.nan
        if defined.size:
            summary[name] = float(defined.mean())
            summary[f"{name}_std"] = float(defined.std())
        if defined.size < values.size:
            summary[f"undefined_{name}"] = int(values.size - defined.size)
    return summary
