"""Scores of a whole evaluation: a per-scene table that grows batch by batch, and its summary.

    scorer = SceneScorer()
    for batch in batches:
        outputs = model(batch["image"])
        scorer.update(
            image=batch["image"],
            recon=outputs.recon,
            masks=outputs.masks,
            true_mask=batch.get("mask"),
            extra=outputs.loss_terms,
            valid=batch.get("valid"),
        )
    scorer.summary()["fg_ari"]

Every score is computed per scene (image or video) and then averaged, so the batch size does not
matter. Two kinds of scenes are told apart and counted:

  undefined: the truth leaves nothing to score, as FG-ARI without objects. Left out of the mean.
  failed: an output of the model is NaN or infinite. Such a scene counts with the worst value of
    every score that reads the output (`definitions.worst`), so no model gains by failing.

Needs only NumPy, and SciPy where there are true masks.
"""

import csv

import numpy as np

from tfobj import files
from tfobj.errors import UserError
from tfobj.metrics import amodal, clustering, definitions, scene_scores, video
from tfobj.structs import IGNORE_LABEL

NUM_RESAMPLES = 2_000
"""Enough that the ends of a 95 % interval move by about 2 % of its width between seeds."""


class SceneScorer:
    """Accumulates the scores of scenes from any model.

    The table has one row per scene. Its columns are:
      mse, psnr: reconstruction error of images in [0, 1], and the same in dB.
      mse_10, mse_20, mse_30, mse_40: videos of at least this length only; error of the first
        frames.
    With true masks:
      fg_ari, ari: adjusted Rand index of the pixels of objects, and of all pixels; over a video as
        a whole.
      fg_ari_frame, ari_frame: videos only; mean over frames, blind to identity switches.
      fg_ari_10, ...: fg_ari of the first 10, 20, 30, 40 frames of videos of at least this length.
      fg_ari_frame_10, ari_frame_10, ...: fg_ari_frame and ari_frame of the first frames
        (Zablotskaia 2020, table 1).
      msc, msc_all: mean covering of the objects, and of the objects and the background.
      sc: size-weighted covering of the objects.
      miou: IoU of objects under the best one-to-one matching with slots.
      mse_foreground: squared error on the pixels of objects.
      num_objects: number of objects that have pixels.
    If the model gives its objects a full extent and a depth (`metrics.amodal`,
    `metrics.depth_order`; images only):
      object_miou: miou of the modal map of object slots, in which the nearest slot whose alpha
        exceeds 0.3 owns a pixel, else the background.
    If, in addition, the full extents of the true objects are known:
      aiou: IoU of the full extents of objects and slots under a matching of its own.
      dpa_0, dpa_30, dpa_90: depth pair accuracy over the pairs of objects whose extents share at
        least this many pixels.
      position_error: distance in pixels of a matched slot's position from the centre of its
        object's bounding box.

    Args:
      empty_value: FG-ARI of scenes, and of frames, without objects; NaN leaves them out of the
        mean. Zablotskaia 2020 uses `video.ZABLOTSKAIA_EMPTY_VALUE`, 1.
      ignore_label: the id in true masks that marks pixels without label.
      prefixes: lengths in frames of the prefixes of a video that get columns of their own; those
        beyond its length get none.
    """

    def __init__(self, *, empty_value=np.nan, ignore_label=IGNORE_LABEL, prefixes=video.PREFIXES):
        self._empty_value = empty_value
        self._ignore_label = ignore_label
        self._prefixes = tuple(prefixes)
        self._batches = []
        self._failed_columns = []
        self._failed_scenes = []
        self._counts = []

    def update(
        self,
        *,
        image=None,
        recon=None,
        masks=None,
        segments=None,
        true_mask=None,
        amodal_masks=None,
        depths=None,
        positions=None,
        background_slot=None,
        true_amodal_masks=None,
        true_depth=None,
        extra=None,
        scores=None,
        valid=None,
    ):
        """Scores one batch.

        Args:
          image, recon: optional, given together: [B, (T,) H, W, C] in [0, 1].
          masks: [B, (T,) K, H, W, 1], or `segments` in its place.
          segments: [B, (T,) H, W] integer ids >= 0 of predicted segments;
            `clustering.NO_SLOT` in scenes where the model failed.
          true_mask: optional [B, (T,) H, W] integer ids; 0 = background.
          amodal_masks, depths: optional, given together: [B, K, H, W, 1] in [0, 1], full extent of
            every slot; [B, K], smaller is nearer.
          positions: optional [B, K, 2], row and column of every slot in pixels.
          background_slot: index of the slot that always holds the background and takes no part in
            the scores of extents and depths; None: all slots are objects.
          true_amodal_masks: optional {0, 1} [B, N, H, W], full extent of every entity; entity 0,
            the background, is left out.
          true_depth: optional [B, N], smaller is nearer; orders the pairs that `true_mask` leaves
            open.
          extra: optional dict of name -> [B], numbers of the model itself, added to the table
            (elbo, kl, ...). Where they are not finite, the model failed.
          scores: optional dict of name -> [B], scores computed elsewhere (`tracking_scores`,
            `prediction_scores`), added unchanged; NaN = undefined.
          valid: optional [B] booleans; False marks the padding of a last batch, which is dropped.

        Raises:
          UserError: if shapes disagree, or columns differ from those of earlier batches.
        """
        outputs = {"recon": recon, "masks": masks, "amodal_masks": amodal_masks}
        outputs |= {"depths": depths, "positions": positions, "segments": segments}
        keep = _kept(valid, _num_scenes(outputs))
        outputs = {name: _rows(values, keep) for name, values in outputs.items()}
        image = _rows(image, keep)
        true_mask = _rows(true_mask, keep)

        columns = self._image_columns(image, true_mask, **outputs)
        counts = {}
        if true_mask is not None and amodal_masks is not None:
            # The extent of a background slot is the whole frame, so it is no object.
            of_objects = [
                _objects(outputs[name], background_slot)
                for name in ("amodal_masks", "depths", "positions")
            ]
            extents, counts = scene_scores.amodal_columns(
                *of_objects,
                true_mask,
                _rows(true_amodal_masks, keep),
                _rows(true_depth, keep),
                ignore_label=self._ignore_label,
            )
            columns |= extents

        columns |= _given("scores", scores, keep, columns)
        own = _given("extra", extra, keep, columns)
        for name, values in own.values.items():
            broken = ~np.isfinite(values)
            columns.values[name] = np.where(broken, definitions.worst(name), values)
            columns.failed[name] = broken

        if self._batches and set(columns.values) != set(self._batches[0]):
            differing = sorted(set(columns.values) ^ set(self._batches[0]))
            raise UserError(
                "`update` must give the same columns for every batch. "
                f"Received a change in: {differing}."
            )
        failed = _failed_scenes(columns, outputs, background_slot, np.count_nonzero(keep))
        self._batches.append(columns.values)
        self._failed_columns.append(columns.failed)
        self._failed_scenes.append(failed)
        self._counts.append(counts)

    def _image_columns(self, image, true_mask, recon, masks, segments, **extents):
        """Returns the `Columns` of reconstructions, and of masks or segments."""
        del extents
        segmented = self._mask_columns(true_mask, masks, segments)
        if (image is None) != (recon is None):
            raise UserError("`image` and `recon` must be given together. Received: one of them.")
        if image is None:
            return segmented

        reconstructed = scene_scores.reconstruction_columns(
            image.astype(np.float32),
            recon.astype(np.float32),
            true_mask,
            ignore_label=self._ignore_label,
            prefixes=self._prefixes,
        )
        return reconstructed | segmented

    def _mask_columns(self, true_mask, masks, segments):
        """Returns the `Columns` of masks or segments; none without labels."""
        if true_mask is None:
            return scene_scores.Columns({}, {})
        if (masks is None) == (segments is None):
            raise UserError(
                "One of `masks` and `segments` must be given with `true_mask`. Received: "
                f"{'neither' if masks is None else 'both'}."
            )

        settings = {
            "empty_value": self._empty_value,
            "ignore_label": self._ignore_label,
            "prefixes": self._prefixes,
        }
        if masks is not None:
            return scene_scores.mask_columns(masks, true_mask, **settings)
        return scene_scores.segment_columns(segments, true_mask, **settings)

    def table(self):
        """Returns name -> float64 [num_scenes], scenes in the order of updates.

        NaN = undefined. Failed scenes have the worst value, which is NaN for terms of a model's
        loss that `definitions` does not know; `failures` tells.
        """
        return _joined(self._batches)

    def failures(self):
        """Returns for which scenes an output of the model is not finite: bool [num_scenes]."""
        if not self._failed_scenes:
            return np.zeros(0, bool)
        return np.concatenate(self._failed_scenes)

    def summary(self):
        """Returns a flat dict of numbers, as `evaluation.json` holds them.

        A mean over nothing is NaN. A mean with a failed scene is infinite where the score has no
        worst value, and its standard deviation as well.

        Returns:
          dict of name -> number:
            num_scenes: number of rows of the table.
            failed_scenes: number of scenes for which an output of the model is not finite.
            <column>: mean over the scenes where the column is defined, failed ones included.
            <column>_std: standard deviation over these scenes (not over training seeds).
            undefined_<column>: number of scenes left out, if there are any.
            failed_<column>: number of scenes that count with the worst value, if there are any.
            fg_ari_low, fg_ari_high: 95 % bootstrap interval of the mean.
            miou_micro, object_miou_micro, aiou_micro, position_error_micro: averages over objects
              instead of scenes.
            aiou_objects, position_error_objects: number of these objects.
            dpa_0_micro, ...: averages over pairs instead of scenes.
            dpa_0_pairs, ...: number of these pairs.
            dpa_0_hidden_pairs, ...: number of pairs in which one object shows no pixel, so that
              they count as wrong whatever the model does.
            dpa_0_visible, ...: averages over the other pairs.
        """
        table = self.table()
        summary = summarise(table, _joined(self._failed_columns), self.failures())
        if "fg_ari" in table:
            summary["fg_ari_low"], summary["fg_ari_high"] = bootstrap_interval(table["fg_ari"])
            summary["miou_micro"] = _micro(table["miou"], table["num_objects"])
        if "object_miou" in table:
            summary["object_miou_micro"] = _micro(table["object_miou"], table["num_objects"])
        return summary | _micro_averages(table, _joined(self._counts))

    def write_csv(self, path, names=None):
        """Writes the table atomically, one row per scene.

        The first column is `scene`, a number unless there are `names`; the last is `failed`, 0 or
        1.
        """
        table = self.table()
        failed = self.failures().astype(int)
        if names is None:
            names = range(len(failed))
        with files.atomic_path(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["scene", *table, "failed"])
            for name, broken, *row in zip(names, failed, *table.values(), strict=True):
                writer.writerow([name, *map(float, row), broken])


def summarise(table, failed_columns, failed_scenes):
    """Averages a table over its scenes; see `SceneScorer.summary` for the names.

    Args:
      table: name -> float64 [num_scenes]; NaN = undefined, unless the scene failed.
      failed_columns: name -> bool [num_scenes], where the value is that of a failed scene; names
        may be missing.
      failed_scenes: bool [num_scenes].

    Returns:
      dict of name -> number.
    """
    summary = {"num_scenes": len(failed_scenes), "failed_scenes": int(np.sum(failed_scenes))}
    for name, values in table.items():
        failed = failed_columns.get(name, np.zeros(len(values), bool))
        defined = values[failed | ~np.isnan(values)]
        summary[name], summary[f"{name}_std"] = _mean_and_deviation(defined)
        if defined.size < values.size:
            summary[f"undefined_{name}"] = int(values.size - defined.size)
        if failed.any():
            summary[f"failed_{name}"] = int(failed.sum())
    return summary


def _mean_and_deviation(values):
    """Returns (mean, standard deviation) of values that may be infinite; NaN of none."""
    if not values.size:
        return float("nan"), float("nan")
    mean = float(values.mean())
    if np.isfinite(values).all():
        return mean, float(values.std())
    # Values that are far from all others are what an infinite one stands for.
    return mean, float(abs(mean))


def _failed_scenes(columns, outputs, background_slot, num_scenes):
    """Returns which scenes failed: bool [B].

    Args:
      columns: `Columns` of all scores.
      outputs: name -> output of the model or None.
      background_slot: see `SceneScorer.update`.
      num_scenes: B.
    """
    failed = np.zeros(num_scenes, bool)
    for broken in columns.failed.values():
        failed |= broken

    # Outputs that no score reads, such as the masks of scenes without labels, can fail too. Of
    # positions and depths, only those of objects are read.
    depths = _objects(outputs["depths"], background_slot)
    for values in (outputs["recon"], outputs["masks"], outputs["amodal_masks"], depths):
        if values is not None:
            failed |= ~scene_scores.finite_scenes(values)
    if outputs["segments"] is not None:
        lost = outputs["segments"] == clustering.NO_SLOT
        failed |= lost.any(axis=tuple(range(1, lost.ndim)))
    return failed


def _num_scenes(outputs):
    """Returns B of the first of the model's outputs that was given."""
    for values in outputs.values():
        if values is not None:
            return len(values)
    raise UserError("`recon`, `masks` or `segments` must be given. Received: none of them.")


def _given(argument, values, keep, columns):
    """Returns `Columns` of the kept rows of numbers that were computed elsewhere."""
    kept = {}
    for name, column in (values or {}).items():
        column = np.asarray(column, np.float64)
        if column.shape != keep.shape or name in columns.values:
            raise UserError(
                f"`{argument}[{name!r}]` must have shape [{len(keep)}] and a name of its own. "
                f"Received: {column.shape}."
            )
        kept[name] = column[keep]
    return scene_scores.Columns(kept, {})


def _kept(valid, num_scenes):
    """Returns which scenes of a batch are no padding: bool [B]."""
    if valid is None:
        return np.ones(num_scenes, bool)

    keep = np.asarray(valid).astype(bool)
    if keep.shape != (num_scenes,):
        raise UserError(
            f"`valid` must have shape [{num_scenes}], one entry per scene. Received: {keep.shape}."
        )
    return keep


def _rows(values, keep):
    """Returns the rows of optional values that are kept."""
    if values is None:
        return None
    return np.asarray(values)[keep]


def _objects(values, background_slot):
    """Returns optional values [B, K, ...] without the background's slot."""
    if values is None:
        return None
    return amodal.without_slot(values, background_slot)


def _joined(batches):
    """Concatenates dicts of columns, all with the same names."""
    if not batches:
        return {}
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _micro_averages(table, counts):
    """Returns averages over objects or pairs instead of scenes, and the numbers of these."""
    summary = {name: int(count.sum()) for name, count in counts.items()}
    for name, means in table.items():
        if f"{name}_objects" in counts:
            summary[f"{name}_micro"] = _micro(means, counts[f"{name}_objects"])
        if f"{name}_pairs" not in counts:
            continue

        summary[f"{name}_micro"] = _micro(means, counts[f"{name}_pairs"])
        num_pairs = summary[f"{name}_pairs"]
        num_visible = num_pairs - summary[f"{name}_hidden_pairs"]
        summary[f"{name}_visible"] = float("nan")
        if num_visible:
            # Hidden pairs score 0, so all pairs and the visible ones have the same sum.
            summary[f"{name}_visible"] = summary[f"{name}_micro"] * num_pairs / num_visible
    return summary


def _micro(means, count):
    """Averages over things instead of scenes.

    Args:
      means: [num_scenes], means over the things in every scene; NaN for scenes without any.
      count: [num_scenes], numbers of these things.

    Returns:
      mean: float; NaN without any things.
    """
    total = count.sum()
    if not total:
        return float("nan")
    # Scenes without such things may have any mean, an infinite one too.
    counted = np.where(count > 0, means, 0.0)
    return float((np.where(np.isnan(counted), 0.0, counted) * count).sum() / total)


def bootstrap_interval(values, *, confidence=0.95, num_resamples=NUM_RESAMPLES, seed=0):
    """Computes the percentile bootstrap interval of the mean over scenes, undefined ones left out.

    Args:
      values: [num_scenes]; NaN = undefined. Failed scenes have the worst value, which may be
        infinite; an end of the interval is infinite where that many resamples have such a scene.
      confidence: in (0, 1).
      num_resamples: number of data sets drawn with replacement.
      seed: seed of the draws; the same values give the same interval.

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
    ends = [0.5 - confidence / 2, 0.5 + confidence / 2]
    if np.isfinite(values).all():
        low, high = np.quantile(means, ends)
    else:
        # Between a number and infinity there is nothing to interpolate.
        low, high = np.quantile(means, ends, method="inverted_cdf")
    return float(low), float(high)
