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
| Predictions in files, of any framework? | `predictions` (`launch/score.py`) |
| What does a score mean, and what does a failure cost? | `definitions` |

Functions take plain arrays and know no model. True masks are integer ids [B, (T,) H, W] with
0 = background and 255 = not scored; predicted masks are shares [B, (T,) K, H, W, 1].

Where the truth leaves nothing to score, a score is NaN: undefined, left out of means, and counted.
Where a model's output is NaN or infinite, the scene has failed: it counts with the worst value, so
that no model gains by failing. `docs/metrics.md` has all conventions.

Importing this package loads nothing heavy. Everything but `streaming`, `slot_health`, random and
Inception features, and the functions `..._on_device` works without TensorFlow, with NumPy and
SciPy.
"""

from tfobj import lazy

_PUBLIC = {
    "AdjustedRandIndex": "streaming",
    "Definition": "definitions",
    "FailedScenes": "streaming",
    "FeatureStatistics": "generation",
    "ForegroundARI": "streaming",
    "MeanMatchedIoU": "streaming",
    "MeanSegmentationCovering": "streaming",
    "ReconstructionError": "streaming",
    "SceneMean": "streaming",
    "SceneScorer": "scores",
    "adjusted_rand_index": "clustering",
    "amodal_sets": "amodal",
    "bootstrap_interval": "scores",
    "contingency_table": "clustering",
    "define": "definitions",
    "depth_pair_accuracy": "depth_order",
    "depth_pairs": "depth_order",
    "diagnose": "health",
    "foreground_mean_squared_error": "reconstruction",
    "frame_mean_squared_error": "video",
    "frame_rand_index": "video",
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
    "position_errors": "depth_order",
    "prediction_scores": "video",
    "prefix_means": "video",
    "prefix_rand_index": "video",
    "psnr": "reconstruction",
    "renumber": "clustering",
    "segment_ids": "clustering",
    "segmentation_covering": "overlap",
    "slot_health": "health",
    "tracking_micro": "tracking",
    "tracking_scores": "tracking",
    "worst": "definitions",
}
_MODULES = (
    "amodal",
    "clustering",
    "clustering_graph",
    "definitions",
    "depth_order",
    "generation",
    "generation_features",
    "health",
    "matching",
    "overlap",
    "predictions",
    "reconstruction",
    "scores",
    "streaming",
    "tracking",
    "video",
)
__all__ = list(_PUBLIC)

__getattr__, __dir__ = lazy.names(__name__, _PUBLIC, _MODULES)
