"""Scores of decompositions: exact on the host, compilable in the graph, and health signs without labels.

| question | functions |
|---|---|
| are the pixels of an object together? | `clustering` (ARI, FG-ARI) |
| do segments have the right extent? | `overlap` (IoU, covering, mBO), `matching` (Hungarian mIOU) |
| is the image explained? | `reconstruction` (MSE, PSNR) |
| is the run going wrong? | `health` |
| all of it, over a data set | `scores.SceneScorer`, `streaming` (Keras metrics) |

Functions take plain arrays and know no model. True masks are integer ids [B, (T,) H, W] with
0 = background and 255 = not scored; predicted masks are shares [B, (T,) K, H, W, 1].
"""

from tfobj.metrics.clustering import adjusted_rand_index, contingency_table, segment_ids
from tfobj.metrics.health import diagnose, slot_health
from tfobj.metrics.matching import match_objects, mean_matched_iou
from tfobj.metrics.overlap import mean_best_overlap, segmentation_covering
from tfobj.metrics.reconstruction import foreground_mean_squared_error, mean_squared_error, psnr
from tfobj.metrics.scores import SceneScorer, bootstrap_interval
from tfobj.metrics.streaming import (
    AdjustedRandIndex,
    ForegroundARI,
    MeanMatchedIoU,
    MeanSegmentationCovering,
    ReconstructionError,
    SceneMean,
)

__all__ = [
    "AdjustedRandIndex",
    "ForegroundARI",
    "MeanMatchedIoU",
    "MeanSegmentationCovering",
    "ReconstructionError",
    "SceneMean",
    "SceneScorer",
    "adjusted_rand_index",
    "bootstrap_interval",
    "contingency_table",
    "diagnose",
    "foreground_mean_squared_error",
    "match_objects",
    "mean_best_overlap",
    "mean_matched_iou",
    "mean_squared_error",
    "psnr",
    "segment_ids",
    "segmentation_covering",
    "slot_health",
]
