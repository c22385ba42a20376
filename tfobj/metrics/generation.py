"""Distances between two sets of images in a feature space: do samples look like the data?

    Frechet distance     |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))
    squared MMD          unbiased kernel distance with k(u, v) = (u.v / d + 1)^3

with means m and covariances C of features u, v of dimension d.

Only on features of the 2015 Inception graph are these called FID and KID. On other features, such
as the surrogates of `generation_features`, the same formulas give different numbers, which compare
models with each other but not with any paper. `statistic_names` names results accordingly.

A sample that is NaN or infinite has failed. No finite distance is bad enough for it, so `compare`
counts such samples and calls all distances infinite; the other functions refuse them.

The Frechet distance of finite samples is too large by about c / N: compare only at equal N. The
squared MMD is unbiased and may be negative. Needs only NumPy; computes in float64.

Source: Heusel 2017 (FID); Binkowski 2018 (KID); Chong and Forsyth 2020 (extrapolation).
"""

import numpy as np

from tfobj.errors import UserError

MAX_KERNEL_ROWS = 5_000
"""Above this, the kernel of all pairs takes more than 200 MB: use subsets."""

SUBSET_SIZE = 1_000
NUM_SUBSETS = 100
"""Papers usually report KID over 100 subsets of 1,000 samples."""

_CHUNK = 1_000

INCEPTION = "inception"
"""Name of the features on which the distances are FID and KID."""


def statistic_names(features_name):
    """Returns the names of the Frechet distance and the squared MMD on the features of that name.

    They are ("fid", "kid") on Inception features only.
    """
    if features_name == INCEPTION:
        return "fid", "kid"
    return f"frechet_{features_name}", f"mmd_{features_name}"


class FeatureStatistics:
    """Streaming mean and covariance of features; keeps one d x d matrix instead of the features.

        delta = batch mean - mean
        scatter += batch scatter + delta delta^T count n / (count + n)

    Unlike sums of squares, this update does not suffer from cancellation.

    Attributes:
      count: number of rows so far.
      mean: float64 [d].

    Source: Chan, Golub and LeVeque 1979.
    """

    def __init__(self, num_features):
        self.count = 0
        self.mean = np.zeros(num_features)
        self._scatter = np.zeros((num_features, num_features))

    def update(self, features):
        """Adds rows [n, d].

        Raises:
          UserError: if d differs, or numbers are not finite.
        """
        features = _checked("features", features)
        if features.shape[1] != len(self.mean):
            raise UserError(
                f"`features` must have shape [n, {len(self.mean)}]. Received: {features.shape}."
            )
        if not len(features):
            return

        mean = features.mean(0)
        centred = features - mean
        delta = mean - self.mean
        count = self.count + len(features)
        self._scatter += centred.T @ centred + np.outer(delta, delta) * (
            self.count * len(features) / count
        )
        self.mean = self.mean + delta * (len(features) / count)
        self.count = count

    @property
    def covariance(self):
        """float64 [d, d], divided by count - 1."""
        if self.count < 2:
            raise UserError(f"A covariance needs at least 2 samples. Received: {self.count}.")
        return self._scatter / (self.count - 1)


def statistics_of(features):
    """Returns the `FeatureStatistics` of rows [N, d] of any float type, chunk by chunk."""
    features = np.asarray(features)
    statistics = FeatureStatistics(features.shape[-1])
    for start in range(0, len(features), _CHUNK):
        statistics.update(features[start : start + _CHUNK])
    return statistics


def frechet_distance_of_moments(mean_1, covariance_1, mean_2, covariance_2):
    """Computes the squared Frechet (2-Wasserstein) distance of two normal distributions.

        C1 = V diag(w) V^T,  S = V diag(sqrt(w)) V^T,  tr (C1 C2)^(1/2) = sum sqrt(eig(S C2 S))

    It needs only the eigenvalues of symmetric matrices.

    Args:
      mean_1, mean_2: [d].
      covariance_1, covariance_2: [d, d], symmetric; may be singular.

    Returns:
      distance: float, at least 0; for identical distributions 0 up to about 1e-6 tr C1.
    """
    mean_1, mean_2, covariance_1, covariance_2 = (
        np.asarray(values, np.float64) for values in (mean_1, mean_2, covariance_1, covariance_2)
    )
    if not all(np.isfinite(v).all() for v in (mean_1, mean_2, covariance_1, covariance_2)):
        raise UserError("Means and covariances must be finite. Received: NaN or infinity.")

    # Singular covariances have eigenvalues that rounding puts slightly below 0.
    eigenvalues, vectors = np.linalg.eigh(covariance_1)
    root = (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T
    product = root @ covariance_2 @ root
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(0.5 * (product + product.T)), 0.0)).sum()

    distance = (
        np.square(mean_1 - mean_2).sum()
        + np.trace(covariance_1)
        + np.trace(covariance_2)
        - 2.0 * cross
    )
    return float(max(distance, 0.0))


def frechet_distance(features_1, features_2):
    """Computes the Frechet distance of two sets of features; on Inception features, the FID.

    The estimate is biased upward: two sets of N draws of the same d-dimensional standard normal are
    about d (d + 1) / 2N apart.

    Args:
      features_1, features_2: [N, d] and [M, d], or their `FeatureStatistics`.

    Returns:
      distance: float, at least 0.
    """
    one = _as_statistics(features_1)
    two = _as_statistics(features_2)
    if one.mean.shape != two.mean.shape:
        raise UserError(
            "Both sets of features must have the same d. "
            f"Received: {len(one.mean)} and {len(two.mean)}."
        )
    return frechet_distance_of_moments(one.mean, one.covariance, two.mean, two.covariance)


def extrapolated_frechet_distance(features_1, features_2, *, num_points=8, smallest=0.25, seed=0):
    """Extrapolates the Frechet distance to infinitely many samples.

    The result is the intercept of a line through distances over 1 / N. Random subsets of equal size
    N are drawn from both sets; N ranges from a share `smallest` of the rows to all rows, evenly
    spaced in 1 / N.

    Args:
      features_1, features_2: [N, d], equally many rows.
      num_points: number of subset sizes, at least 2.
      smallest: share of the rows in the smallest subset, in (0, 1).
      seed: seed of the subsets.

    Returns:
      distance: float; noise may make it negative.

    Source: Chong and Forsyth 2020, section 4 (there, only one of the two sets is extrapolated).
    """
    num_rows = _equal_rows(features_1, features_2)
    if num_points < 2 or not 0.0 < smallest < 1.0:
        raise UserError(
            "`num_points` must be at least 2 and `smallest` in (0, 1). "
            f"Received: {num_points} and {smallest}."
        )

    inverse = np.linspace(1.0 / (smallest * num_rows), 1.0 / num_rows, num_points)
    sizes = np.unique(np.maximum(np.rint(1.0 / inverse).astype(np.int64), 2))
    if len(sizes) < 2:
        raise UserError(f"An extrapolation needs more samples. Received: {num_rows}.")

    rng = np.random.default_rng(seed)
    distances = [
        frechet_distance(*_random_rows(rng, size, features_1, features_2)) for size in sizes
    ]
    return float(np.polyfit(1.0 / sizes, distances, 1)[1])


def kernel_distance(features_1, features_2):
    """Computes the unbiased squared MMD of two sets of features; on Inception features, the KID.

        mean of k over pairs of different rows, for each set  -  2 (mean of k between the sets)

    k is the cubic polynomial kernel of this module's docstring.

    Args:
      features_1, features_2: [N, d] and [M, d], 2 to `MAX_KERNEL_ROWS` rows.

    Returns:
      distance: float with expectation 0 for two samples of one distribution; may be negative.

    Raises:
      UserError: if there are too few or too many rows, or d differs.

    Source: Binkowski 2018, section 4.
    """
    one = _checked("features_1", features_1)
    two = _checked("features_2", features_2)
    if one.shape[1] != two.shape[1]:
        raise UserError(
            "Both sets of features must have the same d. "
            f"Received: {one.shape[1]} and {two.shape[1]}."
        )
    if not 2 <= min(len(one), len(two)) <= max(len(one), len(two)) <= MAX_KERNEL_ROWS:
        raise UserError(
            f"`kernel_distance` takes 2 to {MAX_KERNEL_ROWS:,} rows; use "
            f"`kernel_distance_of_subsets` for more. Received: {len(one)} and {len(two)}."
        )

    def within(rows):
        # Leaving out the diagonal, each row with itself, makes the estimate unbiased.
        kernel = _kernel(rows, rows)
        return (kernel.sum() - np.trace(kernel)) / (len(rows) * (len(rows) - 1))

    return float(within(one) + within(two) - 2.0 * _kernel(one, two).mean())


def kernel_distance_of_subsets(
    features_1, features_2, *, num_subsets=NUM_SUBSETS, subset_size=SUBSET_SIZE, seed=0
):
    """Computes mean and standard deviation of `kernel_distance` over random subsets.

    Each subset is drawn without replacement from each set.

    Args:
      features_1, features_2: [N, d], equally many rows.
      num_subsets: number of subsets.
      subset_size: rows per subset; sets with no more rows than this are compared once, as a whole.
      seed: seed of the subsets.

    Returns:
      (mean, std): floats; std is NaN for a single subset.
    """
    num_rows = _equal_rows(features_1, features_2)
    if min(num_subsets, subset_size - 1) < 1:
        raise UserError(
            "`num_subsets` must be at least 1 and `subset_size` at least 2. "
            f"Received: {num_subsets} and {subset_size}."
        )

    # Subsets of all rows are all the same.
    if num_rows <= subset_size:
        num_subsets = 1
        subset_size = num_rows

    rng = np.random.default_rng(seed)
    distances = [
        kernel_distance(*_random_rows(rng, subset_size, features_1, features_2))
        for _ in range(num_subsets)
    ]

    if num_subsets == 1:
        return float(distances[0]), float("nan")
    return float(np.mean(distances)), float(np.std(distances))


def compare(features_1, features_2, features_name, *, extrapolate=False, seed=0):
    """Computes all statistics of two sets of features under their proper names.

    Args:
      features_1: [N, d], of a model's samples; rows that are not finite are failed samples.
      features_2: [N, d], of held-out images.
      features_name: name of the features, see `statistic_names`.
      extrapolate: whether to extrapolate the Frechet distance to infinitely many samples as well.
      seed: seed of the subsets.

    Returns:
      dict: `<frechet>`; with `extrapolate`, `<frechet>_extrapolated`; `<mmd>`, `<mmd>_std` (over
        subsets; NaN up to `SUBSET_SIZE` rows, which make one) and `<mmd>_x100` (the papers' unit);
        `failed_samples`, their number. All distances are infinite if there are any.
    """
    frechet, mmd = statistic_names(features_name)
    finite = np.isfinite(np.asarray(features_1, np.float64)).all(axis=-1)
    num_failed = int(np.count_nonzero(~finite))
    if num_failed:
        # Only the names of the statistics are computed with zeros in place of failed samples.
        features_1 = np.where(finite[:, None], features_1, 0.0)

    result = {frechet: frechet_distance(features_1, features_2)}
    if extrapolate:
        result[f"{frechet}_extrapolated"] = extrapolated_frechet_distance(
            features_1, features_2, seed=seed
        )
    mean, std = kernel_distance_of_subsets(features_1, features_2, seed=seed)
    result |= {mmd: mean, f"{mmd}_std": std, f"{mmd}_x100": 100.0 * mean}
    if num_failed:
        result = dict.fromkeys(result, float("inf"))
    return {**result, "failed_samples": num_failed}


def _kernel(one, two):
    return (one @ two.T / one.shape[1] + 1.0) ** 3


def _as_statistics(features):
    if isinstance(features, FeatureStatistics):
        return features
    return statistics_of(features)


def _random_rows(rng, size, *sets):
    """Draws `size` rows from every set without replacement, one set after the other."""
    return [rows[rng.choice(len(rows), size, replace=False)] for rows in sets]


def _equal_rows(one, two):
    if len(one) != len(two):
        raise UserError(
            "Both sets must have equally many samples, because distances depend on their number. "
            f"Received: {len(one)} and {len(two)}."
        )
    return len(one)


def _checked(name, features):
    features = np.asarray(features, np.float64)
    if features.ndim != 2:
        raise UserError(f"`{name}` must have shape [n, d]. Received: {features.shape}.")
    if not np.isfinite(features).all():
        raise UserError(f"`{name}` must be finite. Received: NaN or infinity.")
    return features
