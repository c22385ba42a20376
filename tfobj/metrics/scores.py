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
from tfobj.metrics import amodal, clustering, depth_order, matching, overlap, reconstruction, video
from tfobj.structs import IGNORE_LABEL

NUM_RESAMPLES = 2_000
"""Enough that the ends of a 95 % interval move by about 2 % of its width between seeds."""


class SceneScorer:
    """Accumulates the scores of scenes, whatever made them.

    Columns of the table, one row per scene:
      mse, psnr: reconstruction error of images in [0, 1], and in dB.
      mse_10, mse_20, mse_30, mse_40: videos of so many frames only; error of their first frames.
    and, where there are true masks:
      fg_ari, ari: adjusted Rand index of the pixels of objects, and of all pixels; over a video as a whole.
      fg_ari_frame, ari_frame: videos only; mean over frames, blind to identity switches.
      fg_ari_10, ...: as fg_ari, of the first 10, 20, 30, 40 frames; videos of so many frames only.
      fg_ari_frame_10, ari_frame_10, ...: as fg_ari_frame and ari_frame, of the first frames (Zablotskaia 2020, table 1).
      msc, msc_all: mean covering of the objects, and of the objects and the background.
      sc: size-weighted covering of the objects.
      miou: IoU of objects under the best one-to-one matching with slots.
      mse_foreground: squared error on the pixels of objects.
      num_objects: objects that have pixels.
    and, where a model gives its objects a full extent and a depth (`metrics.amodal`, `metrics.depth_order`; images only):
      object_miou: as miou, but of the modal map of object slots: the nearest slot whose alpha exceeds 0.3, else background.
    and, where the full extents of the objects are known:
      aiou: IoU of the full extents of objects and slots under a matching of its own.
      dpa_0, dpa_30, dpa_90: depth pair accuracy over the pairs of objects whose extents share so many pixels at least.
      position_error: distance in pixels between a matched slot's position and the centre of its object's bounding box.

    Args:
      empty_value: FG-ARI of a scene, and of a frame, without objects; NaN leaves it out of the mean. Zablotskaia 2020 has
        `video.ZABLOTSKAIA_EMPTY_VALUE`, 1.
      ignore_label: the id in true masks that marks pixels without label.
      prefixes: numbers of first frames of a video that get columns of their own; those beyond its length get none.
    """

    def __init__(self, *, empty_value=np.nan, ignore_label=IGNORE_LABEL, prefixes=video.PREFIXES):
        self._empty_value = empty_value
        self._ignore_label = ignore_label
        self._prefixes = tuple(prefixes)
        self._batches, self._counts = [], []

    def update(
        self,
        *,
        image,
        recon,
        masks,
        true_mask=None,
        amodal_masks=None,
        depths=None,
        positions=None,
        background_slot=None,
        true_amodal_masks=None,
        true_depth=None,
        extra=None,
        valid=None,
    ):
        """Scores one batch.

        Args:
          image, recon: [B, (T,) H, W, C] in [0, 1].
          masks: [B, (T,) K, H, W, 1].
          true_mask: optional [B, (T,) H, W] integer ids; 0 = background.
          amodal_masks, depths: optional, together: [B, K, H, W, 1] in [0, 1], full extent of every slot; [B, K], smaller is nearer.
          positions: optional [B, K, 2], row and column of every slot in pixels.
          background_slot: index of the slot that is always the background, which takes no part in the scores of extents and
            depths; None: all slots are objects.
          true_amodal_masks: optional {0, 1} [B, N, H, W], full extent of every entity; entity 0, the background, is left out.
          true_depth: optional [B, N], smaller is nearer; orders the pairs that `true_mask` does not.
          extra: optional dict of name -> [B], added to the table as it is (elbo, kl, ...).
          valid: optional [B] booleans; False marks the padding of a last batch, which is dropped.

        Raises:
          UserError: if shapes disagree, or columns differ from those of earlier batches.
        """
        image = np.asarray(image)
        keep = np.ones(len(image), bool) if valid is None else np.asarray(valid).astype(bool)
        if keep.shape != (len(image),):
            raise UserError(
                f"`valid` must have shape [{len(image)}], one entry per scene. Received: {keep.shape}."
            )
        image, recon = image[keep].astype(np.float32), np.asarray(recon)[keep].astype(np.float32)
        frame_mse = video.frame_mean_squared_error(image, recon) if image.ndim == 5 else None
        mse = (
            reconstruction.mean_squared_error(image, recon)
            if frame_mse is None
            else frame_mse.mean(-1)
        )
        columns = {"mse": mse, "psnr": reconstruction.psnr(mse)}
        if frame_mse is not None:
            columns |= _named("mse", video.prefix_means(frame_mse, self._prefixes))
        if true_mask is not None:
            columns |= self._mask_scores(
                image, recon, np.asarray(masks)[keep], np.asarray(true_mask)[keep]
            )
        counts = {}
        if true_mask is not None and amodal_masks is not None:
            predicted = [
                None
                if values is None
                else amodal.without_slot(np.asarray(values)[keep], background_slot)
                for values in (amodal_masks, depths, positions)
            ]
            truth = [
                None if values is None else np.asarray(values)[keep]
                for values in (true_mask, true_amodal_masks, true_depth)
            ]
            scores, counts = self._amodal_scores(*predicted, *truth)
            columns |= scores
        for name, values in (extra or {}).items():
            values = np.asarray(values, np.float64)
            if values.shape != keep.shape or name in columns:
                raise UserError(
                    f"`extra[{name!r}]` must have shape [{len(keep)}] and a name of its own. Received: {values.shape}."
                )
            columns[name] = values[keep]
        if self._batches and set(columns) != set(self._batches[0]):
            differing = sorted(set(columns) ^ set(self._batches[0]))
            raise UserError(
                f"`update` must give the same columns for every batch. Received a change in: {differing}."
            )
        self._batches.append(columns)
        self._counts.append(counts)

    def _mask_scores(self, image, recon, masks, true):
        clustering.check_masks(masks.shape)
        resolution = (*masks.shape[:-4], *masks.shape[-3:-1])
        if true.shape != resolution:
            raise UserError(
                f"`true_mask` must have the resolution of `masks`, {resolution}: resize it with nearest "
                f"neighbour. Received: {true.shape}."
            )
        if true.ndim == 4:
            # Tables add up over frames, so one count serves both levels. A video with one frame is an image.
            frames = video.frame_tables(true, masks, ignore_label=self._ignore_label)
            table = frames.sum(1)
        else:
            counts = {"num_predicted": masks.shape[-4], "ignore_label": self._ignore_label}
            frames, table = (
                None,
                clustering.contingency_table(true, clustering.segment_ids(masks), **counts),
            )

        def rand_index(tables, foreground_only):
            return clustering.adjusted_rand_index_from_table(
                tables, foreground_only=foreground_only, empty_value=self._empty_value
            )

        columns = {"fg_ari": rand_index(table, True), "ari": rand_index(table, False)}
        if frames is not None:
            for name, foreground_only in (("fg_ari", True), ("ari", False)):
                by_frame = rand_index(frames, foreground_only)
                columns[f"{name}_frame"] = clustering.mean_over_defined(by_frame)
                columns |= _named(f"{name}_frame", video.prefix_means(by_frame, self._prefixes))
            prefixes = video.prefix_rand_index(
                frames, self._prefixes, foreground_only=True, empty_value=self._empty_value
            )
            columns |= _named("fg_ari", prefixes)
        columns["msc"] = overlap.segmentation_covering_from_table(table)
        columns["msc_all"] = overlap.segmentation_covering_from_table(table, foreground_only=False)
        columns["sc"] = overlap.segmentation_covering_from_table(table, size_weighted=True)
        columns["miou"] = clustering.mean_over_defined(matching.matched_iou_from_table(table))
        columns["mse_foreground"] = reconstruction.foreground_mean_squared_error(
            image, recon, true, ignore_label=self._ignore_label
        )
        columns["num_objects"] = (table[:, 1:].sum(-1) > 0).sum(-1).astype(np.float64)
        return columns

    def _amodal_scores(self, amodal_masks, depths, positions, true, true_amodal_masks, true_depth):
        """Returns columns, and the numbers of objects and pairs that they are means of: two dicts of float64 [B]."""
        sets = amodal.amodal_sets(amodal_masks)
        if true.shape != (len(sets), *sets.shape[2:]):
            raise UserError(
                f"`true_mask` must have the resolution of `amodal_masks`, {sets.shape[2:]}. Received: {true.shape}."
            )
        if depths is None:
            raise UserError("`depths` must be given with `amodal_masks`. Received: None.")
        labelled = (
            true if self._ignore_label is None else np.where(true == self._ignore_label, 0, true)
        )
        num_objects = int(labelled.max(initial=0))
        if true_amodal_masks is not None:
            if (
                true_amodal_masks.ndim != 4
                or true_amodal_masks.shape[2:] != sets.shape[2:]
                or true_amodal_masks.shape[1] <= num_objects
            ):
                raise UserError(
                    f"`true_amodal_masks` must have shape [B, N, {sets.shape[2]}, {sets.shape[3]}] with N more than every id in "
                    f"`true_mask`, {num_objects}. Received: {true_amodal_masks.shape}."
                )
            num_objects = true_amodal_masks.shape[1] - 1
        iou, present = amodal.modal_iou(
            true, amodal.modal_ids(sets, depths), num_objects, sets.shape[1], self._ignore_label
        )
        slots = amodal.match_present(iou, present)
        columns = {
            "object_miou": clustering.mean_over_defined(amodal.iou_of_matching(iou, present, slots))
        }
        counts = {}
        if true_amodal_masks is not None:
            true_sets = true_amodal_masks[:, 1:]
            of_objects = {"aiou": amodal.matched_amodal_iou(true_sets, sets)}
            if positions is not None:
                of_objects["position_error"] = depth_order.position_errors(
                    true_sets, slots, positions
                )
            for name, values in of_objects.items():
                columns[name], counts[f"{name}_objects"] = (
                    clustering.mean_over_defined(values),
                    (~np.isnan(values)).sum(-1),
                )
            pairs = depth_order.depth_pairs(
                true, true_sets, None if true_depth is None else true_depth[:, 1:], slots, depths
            )
            for threshold in depth_order.MIN_OVERLAPS:
                name, counted = f"dpa_{threshold}", depth_order.counted(pairs, threshold)
                columns[name] = depth_order.depth_pair_accuracy(pairs, threshold)
                counts[f"{name}_pairs"], counts[f"{name}_hidden_pairs"] = (
                    counted.sum(-1),
                    (counted & pairs.hidden).sum(-1),
                )
        return columns, counts

    def table(self):
        """name -> float64 [num_scenes], scenes in the order in which they came; NaN = undefined."""
        if not self._batches:
            return {}
        return {
            name: np.concatenate([batch[name] for batch in self._batches])
            for name in self._batches[0]
        }

    def summary(self):
        """Flat dict of numbers, as `evaluation.json` holds them.

        Returns:
          num_scenes; per column `<name>`: mean over the scenes where it is defined, `<name>_std`: standard
          deviation over these scenes (not over training seeds), and `undefined_<name>`: the number of
          scenes left out, if there are any; fg_ari_low, fg_ari_high: 95 % bootstrap interval of the mean;
          miou_micro, object_miou_micro, aiou_micro, position_error_micro: averaged over objects instead of scenes;
          aiou_objects, position_error_objects: how many objects that are; dpa_0_micro, ...: averaged over pairs instead of scenes;
          dpa_0_pairs, ...: how many pairs that are; dpa_0_hidden_pairs, ...: those among them where one object shows no pixel,
          which count as wrong whatever the model does; dpa_0_visible, ...: average over the other pairs. A mean over nothing is NaN.
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
            summary["miou_micro"] = _micro(table["miou"], table["num_objects"])
        if "object_miou" in table:
            summary["object_miou_micro"] = _micro(table["object_miou"], table["num_objects"])
        counts = {
            name: np.concatenate([counts[name] for counts in self._counts])
            for name in (self._counts or [{}])[0]
        }
        for name, count in counts.items():
            summary[name] = int(count.sum())
        for name in table:
            things = next(
                (count for thing in ("objects", "pairs") if (count := f"{name}_{thing}") in counts),
                None,
            )
            if things:
                summary[f"{name}_micro"] = _micro(table[name], counts[things])
            if f"{name}_hidden_pairs" in counts:
                # Hidden pairs add nothing to the sum of scores.
                visible = summary[things] - summary[f"{name}_hidden_pairs"]
                summary[f"{name}_visible"] = (
                    summary[f"{name}_micro"] * summary[things] / visible
                    if visible
                    else float("nan")
                )
        return summary

    def write_csv(self, path):
        """Writes the table, one row per scene, first column `scene`. The file appears whole or not at all."""
        table = self.table()
        with files.whole(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["scene", *table])
            for i, row in enumerate(zip(*table.values(), strict=True)):
                writer.writerow([i, *map(float, row)])


def _named(name, of_length):
    """Returns {`<name>_<length>`: column} of {length: column}."""
    return {f"{name}_{length}": column for length, column in of_length.items()}


def _defined(values):
    return np.where(np.isnan(values), 0.0, values)


def _micro(means, count):
    """Mean over the things that `means` [num_scenes] are means over, `count` [num_scenes] of them in each; NaN without any."""
    return float((_defined(means) * count).sum() / count.sum()) if count.sum() else float("nan")


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
