"""Frechet distance and squared MMD: examples M16-M21, SciPy, double loops, laws, streaming."""

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.metrics import generation


def naive_kernel_distance(x, y):
    def k(u, v):
        return (np.dot(u, v) / len(u) + 1.0) ** 3

    within = [
        sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j)
        / (len(s) * (len(s) - 1))
        for s in (x, y)
    ]
    return sum(within) - 2.0 * np.mean([[k(u, v) for v in y] for u in x])


@pytest.mark.parametrize(
    "moments, expected",
    [
        (([0.0], [[1.0]], [1.0], [[4.0]]), 2.0),
        (([0.0, 0.0], np.diag([2.0, 1.0]), [1.0, 0.0], np.eye(2)), 4 - 2 * np.sqrt(2)),
        (([0.0, 0.0], [[2.0, 1.0], [1.0, 2.0]], [0.0, 0.0], np.eye(2)), 6 - 2 * (np.sqrt(3) + 1)),
    ],
    ids=["M16", "M17", "M18"],
)
def test_frechet_distance_of_normal_distributions(moments, expected):
    assert generation.frechet_distance_of_moments(*moments) == pytest.approx(expected, rel=1e-12)
    assert generation.frechet_distance_of_moments(*moments[2:], *moments[:2]) == pytest.approx(
        expected, rel=1e-12
    )


def test_m19_shifted_points():
    points = np.array([(0, 0), (2, 0), (0, 2), (2, 2)])
    np.testing.assert_allclose(
        generation.statistics_of(points).covariance, np.diag([4 / 3, 4 / 3])
    )  # divided by N - 1
    assert generation.frechet_distance(points, points + [3, 0]) == pytest.approx(9.0, rel=1e-12)


@pytest.mark.parametrize(
    "x, y, expected",
    [
        ([[0], [1]], [[1], [2]], 9.5),
        ([[0], [1]], [[0], [1]], -3.5),
        ([[1, 0], [0, 1]], [[1, 1], [0, 0]], -2.375),
    ],
    ids=["M20a", "M20b", "M21"],
)
def test_kernel_distance(x, y, expected):
    assert generation.kernel_distance(x, y) == pytest.approx(expected, rel=1e-14)
    assert generation.kernel_distance(y, x) == pytest.approx(expected, rel=1e-14)


def test_frechet_distance_equals_the_formula_with_a_matrix_root():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 6)) @ rng.standard_normal((6, 6))
    y = rng.standard_normal((50, 6)) + 0.3
    c1 = np.cov(x.T)
    c2 = np.cov(y.T)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert generation.frechet_distance(x, y) == pytest.approx(expected, rel=1e-10)
    assert generation.frechet_distance(y, x) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_identical_sets_is_zero_also_where_covariances_are_singular():
    rng = np.random.default_rng(1)
    for num_rows in (5, 300):
        x = 10.0 * rng.standard_normal((num_rows, 40)) @ rng.standard_normal((40, 40))
        scale = np.trace(generation.statistics_of(x).covariance)
        assert 0.0 <= generation.frechet_distance(x, x) <= 1e-6 * scale
        assert 0.0 <= generation.frechet_distance(x, rng.permutation(x)) <= 1e-6 * scale
    assert generation.frechet_distance(np.ones((4, 3)), np.ones((4, 3))) == 0.0
    assert generation.frechet_distance(np.ones((4, 3)), np.ones((4, 3)) + [2, 0, 0]) == 4.0


def test_frechet_distance_of_equal_distributions_is_the_known_bias():
    """d (d + 1) / 2N: 4.06 for d = 64, N = 512; the sheet measured 4.4."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 512, 64))
    assert generation.frechet_distance(x, y) == pytest.approx(4.4, abs=0.4)
    at_infinity = generation.extrapolated_frechet_distance(x, y)
    assert abs(at_infinity) < 1.0
    assert (
        at_infinity
        == generation.extrapolated_frechet_distance(x, y)
        != generation.extrapolated_frechet_distance(x, y, seed=1)
    )


def test_extrapolation_finds_a_known_distance():
    """Means one apart in every of 16 dimensions."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2, 2000, 16))
    assert generation.extrapolated_frechet_distance(x, y + 1.0) == pytest.approx(16.0, abs=0.5)


@pytest.mark.parametrize("sizes", [[100], [1, 99], [33, 0, 33, 34], [7] * 14 + [2]])
def test_streaming_equals_all_at_once(sizes):
    features = (
        np.random.default_rng(4).standard_normal((100, 5)) + 1e4
    )  # sums of squares would lose eight digits
    statistics = generation.FeatureStatistics(5)
    for part in np.split(features, np.cumsum(sizes)[:-1]):
        statistics.update(part)
    assert statistics.count == 100
    np.testing.assert_allclose(statistics.mean, features.mean(0), rtol=1e-14)
    np.testing.assert_allclose(statistics.covariance, np.cov(features.T), rtol=1e-10, atol=1e-10)
    assert generation.frechet_distance(statistics, features) < 1e-8


def test_kernel_distance_equals_double_loop_and_has_mean_zero():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((12, 7))
    y = rng.standard_normal((9, 7)) + 0.5
    assert generation.kernel_distance(x, y) == pytest.approx(naive_kernel_distance(x, y), rel=1e-12)
    same = [generation.kernel_distance(*rng.standard_normal((2, 64, 8))) for _ in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(200) and min(same) < 0.0 < max(same)
    assert (
        generation.kernel_distance(x, x) < 0.0
    )  # not zero: pairs of one row with itself count between the sets alone


def test_subsets():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((300, 8))
    y = rng.standard_normal((300, 8)) + 1.0
    mean, std = generation.kernel_distance_of_subsets(x, y, num_subsets=50, subset_size=100)
    assert mean == pytest.approx(generation.kernel_distance(x, y), rel=0.1) and 0 < std < mean
    assert (mean, std) == generation.kernel_distance_of_subsets(
        x, y, num_subsets=50, subset_size=100
    )
    mean, std = generation.kernel_distance_of_subsets(x, y)
    assert mean == pytest.approx(generation.kernel_distance(x, y), rel=1e-12)
    assert np.isnan(std)  # one subset of all rows


def test_only_inception_makes_fid_and_kid():
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((2, 40, 3))
    assert generation.statistic_names("inception") == ("fid", "kid")
    names = {"fid", "kid", "kid_std", "kid_x100", "failed_samples"}
    assert set(generation.compare(x, y, "inception")) == names
    result = generation.compare(x, y, "pixels", extrapolate=True)
    assert set(result) == {
        "frechet_pixels",
        "frechet_pixels_extrapolated",
        "mmd_pixels",
        "failed_samples",
        "mmd_pixels_std",
        "mmd_pixels_x100",
    }
    assert (
        result["mmd_pixels_x100"]
        == 100 * result["mmd_pixels"]
        == 100 * generation.kernel_distance(x, y)
    )
    assert result["frechet_pixels"] == generation.frechet_distance(x, y)


def test_errors(monkeypatch):
    monkeypatch.setattr(generation, "MAX_KERNEL_ROWS", 50)
    x = np.zeros((60, 3))
    for call, message in (
        (
            lambda: generation.kernel_distance(x, x),
            "takes 2 to 50 rows; use `kernel_distance_of_subsets` for more. Received: 60 and 60",
        ),
        (lambda: generation.kernel_distance(x[:1], x[:2]), "takes 2 to 50 rows"),
        (
            lambda: generation.kernel_distance(x[:2], x[:2, :2]),
            "must have the same d. Received: 3 and 2",
        ),
        (
            lambda: generation.frechet_distance(x, x[:, :2]),
            "must have the same d. Received: 3 and 2",
        ),
        (
            lambda: generation.frechet_distance(x[:1], x),
            "needs at least 2 samples. Received: 1",
        ),
        (
            lambda: generation.kernel_distance_of_subsets(x, x[:9]),
            "must have equally many samples.*Received: 60 and 9",
        ),
        (
            lambda: generation.extrapolated_frechet_distance(x, x[:9]),
            "must have equally many samples",
        ),
        (
            lambda: generation.extrapolated_frechet_distance(x, x, num_points=1),
            "`num_points` must be at least 2",
        ),
        (
            lambda: generation.extrapolated_frechet_distance(x[:2], x[:2]),
            "needs more samples. Received: 2",
        ),
        (
            lambda: generation.kernel_distance_of_subsets(x, x, subset_size=1),
            "`subset_size` at least 2",
        ),
        (lambda: generation.statistics_of(np.full((3, 2), np.nan)), "`features` must be finite"),
        (lambda: generation.statistics_of(np.zeros(3)), r"`features` must have shape \[n, d\]"),
        (
            lambda: generation.FeatureStatistics(4).update(x),
            r"`features` must have shape \[n, 4\]. Received: \(60, 3\)",
        ),
    ):
        with pytest.raises(UserError, match=message):
            call()
