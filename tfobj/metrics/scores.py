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
matter. Scenes where a score is undefined are left out of its mean and counted.
"""

import csv

import numpy as np

from tfobj import files
from tfobj.errors import UserError
from tfobj.metrics import amodal, scene_scores, video
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
        self._counts = []

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
          amodal_masks, depths: optional, given together: [B, K, H, W, 1] in [0, 1], full extent of
            every slot; [B, K], smaller is nearer.
          positions: optional [B, K, 2], row and column of every slot in pixels.
          background_slot: index of the slot that always holds the background and takes no part in
            the scores of extents and depths; None: all slots are objects.
          true_amodal_masks: optional {0, 1} [B, N, H, W], full extent of every entity; entity 0,
            the background, is left out.
          true_depth: optional [B, N], smaller is nearer; orders the pairs that `true_mask` leaves
            open.
          extra: optional dict of name -> [B], added to the table unchanged (elbo, kl, ...).
          valid: optional [B] booleans; False marks the padding of a last batch, which is dropped.

        Raises:
          UserError: if shapes disagree, or columns differ from those of earlier batches.
        """
        image = np.asarray(image)
        keep = _kept(valid, len(image))
        image = image[keep].astype(np.float32)
        recon = np.asarray(recon)[keep].astype(np.float32)

        columns = scene_scores.reconstruction_columns(image, recon, self._prefixes)
        if true_mask is not None:
            true_mask = np.asarray(true_mask)[keep]
            columns |= scene_scores.mask_columns(
                image,
                recon,
                np.asarray(masks)[keep],
                true_mask,
                empty_value=self._empty_value,
                ignore_label=self._ignore_label,
                prefixes=self._prefixes,
            )

        counts = {}
        if true_mask is not None and amodal_masks is not None:
            # The extent of a background slot is the whole frame, so it is no object.
            scores, counts = scene_scores.amodal_columns(
                _objects(amodal_masks, keep, background_slot),
                _objects(depths, keep, background_slot),
                _objects(positions, keep, background_slot),
                true_mask,
                _rows(true_amodal_masks, keep),
                _rows(true_depth, keep),
                ignore_label=self._ignore_label,
            )
            columns |= scores

        for name, values in (extra or {}).items():
            values = np.asarray(values, np.float64)
            if values.shape != keep.shape or name in columns:
                raise UserError(
                    f"`extra[{name!r}]` must have shape [{len(keep)}] and a name of its own. "
                    f"Received: {values.shape}."
                )
            columns[name] = values[keep]

        if self._batches and set(columns) != set(self._batches[0]):
            differing = sorted(set(columns) ^ set(self._batches[0]))
            raise UserError(
                "`update` must give the same columns for every batch. "
                f"Received a change in: {differing}."
            )
        self._batches.append(columns)
        self._counts.append(counts)

    def table(self):
        """Returns name -> float64 [num_scenes], scenes in the order of updates; NaN = undefined."""
        return _joined(self._batches)

    def summary(self):
        """Returns a flat dict of numbers, as `evaluation.json` holds them.

        A mean over nothing is NaN.

        Returns:
          dict of name -> number:
            num_scenes: number of rows of the table.
            <column>: mean over the scenes where the column is defined.
            <column>_std: standard deviation over these scenes (not over training seeds).
            undefined_<column>: number of scenes left out, if there are any.
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
        num_scenes = len(next(iter(table.values()), ()))
        summary = {"num_scenes": num_scenes}
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
        return summary | _micro_averages(table, _joined(self._counts))

    def write_csv(self, path):
        """Writes the table atomically, one row per scene; the first column is `scene`."""
        table = self.table()
        with files.atomic_path(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["scene", *table])
            for i, row in enumerate(zip(*table.values(), strict=True)):
                writer.writerow([i, *map(float, row)])


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


def _objects(values, keep, background_slot):
    """Returns the kept rows of optional values [B, K, ...] without the background's slot."""
    if values is None:
        return None
    return amodal.without_slot(_rows(values, keep), background_slot)


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
    return float((np.where(np.isnan(means), 0.0, means) * count).sum() / total)


def bootstrap_interval(values, *, confidence=0.95, num_resamples=NUM_RESAMPLES, seed=0):
    """Computes the percentile bootstrap interval of the mean over scenes, NaN left out.

    Args:
      values: [num_scenes].
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
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)
