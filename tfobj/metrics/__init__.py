"""Metrics of decompositions: exact on the host, compilable in the graph, and health without labels.

| question | functions |
|---|---|
| Are the pixels of an object grouped together? | `clustering` (ARI, FG-ARI) |
| Do segments have the right extent? | `overlap` (IoU, covering, mBO), `matching` (Hungarian mIOU) |
| Are hidden parts right? | `amodal` (amodal IoU) |
| Is the depth order right? | `depth_order` (depth pair accuracy) |
| Is the image explained? | `reconstruction` (MSE, PSNR) |
| Do objects keep their slots over a video clip? | `tracking` (MOTA family), `video` (prefixes) |
| Do samples look like the data? | `generation` (Frechet distance, MMD), `generation_features` |
| Is the run going wrong? | `health` |
| All of these over a data set | `scores.SceneScorer`, `streaming` (Keras metrics) |

Functions take plain arrays and know no model. True masks are integer ids [B, (T,) H, W] with
0 = background and 255 = not scored; predicted masks are shares [B, (T,) K, H, W, 1].

Importing this package loads nothing heavy. `clustering`, `reconstruction` and `generation` need
only NumPy, so hosts without TensorFlow can compute scores.
"""

import importlib

_PUBLIC = {
    "AdjustedRandIndex": "streaming",
    "FeatureStatistics": "generation",
    "ForegroundARI": "streaming",
    "MeanMatchedIoU": "streaming",
    "MeanSegmentationCovering": "streaming",
    "ReconstructionError": "streaming",
    "SceneMean": "streaming",
    "SceneScorer": "scores",
    "adjusted_rand_index": "clustering",
    "bootstrap_interval": "scores",
    "contingency_table": "clustering",
    "depth_pair_accuracy": "depth_order",
    "depth_pairs": "depth_order",
    "diagnose": "health",
    "foreground_mean_squared_error": "reconstruction",
    "frechet_distance": "generation",
    "kernel_distance": "generation",
    "kernel_distance_of_subsets": "generation",
    "make_features": "generation_features",
    "match_objects": "matching",
    "matched_amodal_iou": "amodal",
    "mean_best_overlap": "overlap",
    "mean_matched_iou": "matching",
    "mean_squared_error": "reconstruction",
    "modal_ids": "amodal",
    "psnr": "reconstruction",
    "segment_ids": "clustering",
    "segmentation_covering": "overlap",
    "slot_health": "health",
}
__all__ = list(_PUBLIC)


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
