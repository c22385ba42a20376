"""Scores of a whole evaluation: a per-image table that grows batch by batch, and its summary.

    scorer = SceneScorer()
    for batch in batches:
        outputs = model(batch["image"])
        scorer.update(image=batch["image"], recon=outputs.recon, masks=outputs.masks,
                      true_mask=batch.get("mask"), extra=outputs.loss_terms, valid=batch.get("valid"))
    scorer.summary()["fg_ari"]

Every score is computed per scene (image or video) and then averaged, so that the batch size does not
matter; scenes where a score is undefined are left out of its mean and counted.
"""

import csv

import numpy as np

from tfobj import files
from tfobj.errors import UserError
from tfobj.metrics import clustering, matching, overlap, reconstruction
from tfobj.structs import IGNORE_LABEL

NUM_RESAMPLES = 2_000
"""Enough that the ends of a 95 % interval move by about 2 % of its width between seeds."""


class SceneScorer:
    """Accumulates the scores of scenes, whatever made them.

    Columns of the table, one row per scene:
      mse, psnr: reconstruction error of images in [0, 1], and in dB.
    and, where there are true masks:
      fg_ari, ari: adjusted Rand index of the pixels of objects, and of all pixels; over a video as a whole.
      fg_ari_frame, ari_frame: videos only; mean over frames, blind to identity switches.
      msc, msc_all: mean covering of the objects, and of the objects and the background.
      sc: size-weighted covering of the objects.
      miou: IoU of objects under the best one-to-one matching with slots.
      mse_foreground: squared error on the pixels of objects.
      num_objects: objects that have pixels.

    Args:
      empty_value: FG-ARI of a scene without objects; NaN leaves it out of the mean.
      ignore_label: the id in true masks that marks pixels without label.
    """

    def __init__(self, *, empty_value=np.nan, ignore_label=IGNORE_LABEL):
        self._empty_value = empty_value
        self._ignore_label = ignore_label
        self._batches = []

    def update(self, *, image, recon, masks, true_mask=None, extra=None, valid=None):
        """Scores one batch.

        Args:
          image, recon: [B, (T,) H, W, C] in [0, 1].
          masks: [B, (T,) K, H, W, 1].
          true_mask: optional [B, (T,) H, W] integer ids; 0 = background.
          extra: optional dict of name -> [B], added to the table as it is (elbo, kl, ...).
          valid: optional [B] booleans; False marks the padding of a last batch, which is dropped.

        Raises:
          UserError: if shapes disagree, or columns differ from those of earlier batches.
        """
        image = np.asarray(image)
        keep = np.ones(len(image), bool) if valid is None else np.asarray(valid).astype(bool)
        if keep.shape != (len(image),):
            raise UserError(f"`valid` must have shape [{len(image)}], one entry per scene. Received: {keep.shape}.")
        image, recon = image[keep].astype(np.float32), np.asarray(recon)[keep].astype(np.float32)
        mse = reconstruction.mean_squared_error(image, recon)
        columns = {"mse": mse, "psnr": reconstruction.psnr(mse)}
        if true_mask is not None:
            columns |= self._mask_scores(image, recon, np.asarray(masks)[keep], np.asarray(true_mask)[keep])
        for name, values in (extra or {}).items():
            values = np.asarray(values, np.float64)
            if values.shape != keep.shape or name in columns:
                raise UserError(
                    f"`extra[{name!r}]` must have shape [{len(keep)}] and a name of its own. Received: {values.shape}."
                )
            columns[name] = values[keep]
        if self._batches and set(columns) != set(self._batches[0]):
            differing = sorted(set(columns) ^ set(self._batches[0]))
            raise UserError(f"`update` must give the same columns for every batch. Received a change in: {differing}.")
        self._batches.append(columns)

    def _mask_scores(self, image, recon, masks, true):
        predicted = clustering.segment_ids(masks)
        if true.shape != predicted.shape:
            raise UserError(
                f"`true_mask` must have the resolution of `masks`, {predicted.shape}: resize it with nearest "
                f"neighbour. Received: {true.shape}."
            )
        video = true.ndim == 4
        # Tables add up over frames, so one count serves both levels. A video with one frame is an image.
        counts = {"num_predicted": masks.shape[-4], "ignore_label": self._ignore_label}
        frames = clustering.contingency_table(true, predicted, level="frame", **counts) if video else None
        table = frames.sum(1) if video else clustering.contingency_table(true, predicted, **counts)

        def rand_index(tables, foreground_only):
            return clustering.adjusted_rand_index_from_table(
                tables, foreground_only=foreground_only, empty_value=self._empty_value
            )

        columns = {"fg_ari": rand_index(table, True), "ari": rand_index(table, False)}
        if video:
            columns["fg_ari_frame"] = clustering.mean_over_defined(rand_index(frames, True))
            columns["ari_frame"] = clustering.mean_over_defined(rand_index(frames, False))
        columns["msc"] = overlap.segmentation_covering_from_table(table)
        columns["msc_all"] = overlap.segmentation_covering_from_table(table, foreground_only=False)
        columns["sc"] = overlap.segmentation_covering_from_table(table, size_weighted=True)
        columns["miou"] = clustering.mean_over_defined(matching.matched_iou_from_table(table))
        columns["mse_foreground"] = reconstruction.foreground_mean_squared_error(
            image, recon, true, ignore_label=self._ignore_label
        )
        columns["num_objects"] = (table[:, 1:].sum(-1) > 0).sum(-1).astype(np.float64)
        return columns

    def table(self):
        """name -> float64 [num_scenes], scenes in the order in which they came; NaN = undefined."""
        if not self._batches:
            return {}
        return {name: np.concatenate([batch[name] for batch in self._batches]) for name in self._batches[0]}

    def summary(self):
        """Flat dict of numbers, as `evaluation.json` holds them.

        Returns:
          num_scenes; per column `<name>`: mean over the scenes where it is defined, `<name>_std`: standard
          deviation over these scenes (not over training seeds), and `undefined_<name>`: the number of
          scenes left out, if there are any; fg_ari_low, fg_ari_high: 95 % bootstrap interval of the mean;
          miou_micro: mIOU averaged over objects instead of scenes. A mean over no scenes is NaN.
        """
        table = self.table()
        summary = {"num_scenes": len(next(iter(table.values()))) if table else 0}
        for name, values in table.items():
            defined = values[~np.isnan(values)]
            summary[name] = float(defined.mean()) if defined.size else float("nan")
            summary[f"{name}_std"] = float(defined.std()) if defined.size else float("nan")
            if defined.size < values.size:
                summary[f"undefined_{name}"] = int(values.size - defined.size)
        if "fg_ari" in table:
            summary["fg_ari_low"], summary["fg_ari_high"] = bootstrap_interval(table["fg_ari"])
            count = table["num_objects"]
            weighted = np.where(count > 0, table["miou"], 0.0) * count
            summary["miou_micro"] = float(weighted.sum() / count.sum()) if count.sum() else float("nan")
        return summary

    def write_csv(self, path):
        """Writes the table, one row per scene, first column `scene`. The file appears whole or not at all."""
        table = self.table()
        with files.whole(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["scene", *table])
            for i, row in enumerate(zip(*table.values(), strict=True)):
                writer.writerow([i, *map(float, row)])


def bootstrap_interval(values, *, confidence=0.95, num_resamples=NUM_RESAMPLES, seed=0):
    """Percentile bootstrap interval of the mean over scenes, NaN left out.

    Args:
      values: [num_scenes].
      confidence: in (0, 1).
      num_resamples: number of data sets drawn with replacement.
      seed: of the draws; the same values give the same interval.

    Returns:
      (low, high): floats; NaN if no value is defined.

    Source: Efron 1979.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    # One resample at a time: a matrix of all indices would take 160 MB for ten thousand scenes.
    means = [values[rng.integers(0, values.size, values.size)].mean() for _ in range(num_resamples)]
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)
