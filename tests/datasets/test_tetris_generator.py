"""Tetrominoes: laws of the published images, statistics of the published counts, determinism."""

import hashlib

import numpy as np
import pytest

from tfobj.datasets.generators import tetris

NUM_STATISTICS = 100_000


@pytest.fixture(scope="module")
def many_factors():
    return tetris.factors(np.arange(NUM_STATISTICS))


@pytest.fixture(scope="module")
def scenes():
    return tetris.scenes(np.arange(2000))


def digest(scenes):
    content = b"".join(np.ascontiguousarray(scenes[name]).tobytes() for name in sorted(scenes))
    return hashlib.sha256(content).hexdigest()[:16]


def test_shape_table_holds_every_fixed_tetromino_once():
    patterns = [pattern.split("/") for pattern in tetris.SHAPES]
    assert len(set(tetris.SHAPES)) == 19
    assert all("".join(rows).count("#") == 4 for rows in patterns)
    assert all(len({len(row) for row in rows}) == 1 for rows in patterns)
    # Turning and mirroring any piece gives a piece of the table: nothing is missing.
    for rows in patterns:
        turned = ["".join(column) for column in zip(*rows[::-1], strict=True)]
        assert "/".join(turned) in tetris.SHAPES
        assert "/".join(row[::-1] for row in rows) in tetris.SHAPES


def test_zs_shapes_are_those_of_the_published_filter():
    assert [i for i in range(1, 20) if 10.5 <= i <= 14.5] == list(tetris.ZS_SHAPES)
    assert tetris.SHAPES[12 - 1] == ".##/##."


def test_rendering_a_piece_by_hand():
    """`x` is the row and `y` the column: a lying bar at x=7, y=2 covers rows 7-11, columns 2-21."""
    factors = {
        "x": np.array([[0, 7]]),
        "y": np.array([[0, 2]]),
        "shape": np.array([[0, 1]]),
        "color": np.array([[[0, 0, 0], [0, 1, 1]]]),
    }
    image, mask = tetris.render(factors)
    expected = np.zeros((35, 35), np.uint8)
    expected[7:12, 2:22] = 1

    np.testing.assert_array_equal(mask[0], expected)
    first_cell = np.array(
        [[191, 255, 255, 255, 223], *[[127, 159, 159, 159, 191]] * 3, [95, 63, 63, 63, 127]]
    )

    np.testing.assert_array_equal(image[0, 7:12, 2:22, 1], np.tile(first_cell, (1, 4)))
    np.testing.assert_array_equal(image[..., 2], image[..., 1])
    assert image[..., 0].max() == 0


def test_scenes_render_again_from_their_factors_bit_for_bit(scenes):
    image, mask = tetris.render({name: scenes[name] for name in ("x", "y", "shape", "color")})
    np.testing.assert_array_equal(image, scenes["image"])
    np.testing.assert_array_equal(mask, scenes["mask"])


def test_three_pieces_of_four_cells_without_overlap(scenes):
    for entity in (1, 2, 3):
        assert ((scenes["mask"] == entity).sum(axis=(1, 2)) == 4 * 25).all()
    assert scenes["image"].dtype == scenes["mask"].dtype == np.uint8
    assert (scenes["image"][scenes["mask"] == 0] == 0).all()


def test_background_entity_has_zero_factors_and_exists(scenes):
    for name in ("x", "y", "shape", "color"):
        assert (scenes[name][:, 0] == 0).all()
    assert (scenes["visibility"] == 1).all()


def test_shapes_and_colors_follow_the_published_counts(many_factors):
    zs = np.isin(many_factors["shape"], tetris.ZS_SHAPES)
    green = (many_factors["color"] == [0, 1, 0]).all(axis=-1)
    assert zs.any(axis=1).mean() == pytest.approx(0.4967, abs=0.002)
    assert (zs & green).any(axis=1).mean() == pytest.approx(0.0991, abs=0.002)


def test_colors_are_even(many_factors):
    codes = many_factors["color"][:, 1:] @ [4, 2, 1]
    frequencies = np.array([(codes == code).mean() for code in (4, 2, 1, 3, 5, 6)])
    np.testing.assert_allclose(frequencies, 1 / 6, atol=0.003)


def test_positions_reach_all_borders(many_factors):
    row, column, shape = (many_factors[name][:, 1:] for name in ("x", "y", "shape"))
    lying_bar = shape == 1
    assert (row[lying_bar].min(), row[lying_bar].max()) == (0, 30)
    assert (column[lying_bar].min(), column[lying_bar].max()) == (0, 15)


def test_scene_is_a_function_of_seed_and_index(scenes):
    order = np.random.default_rng(0).permutation(2000)[:300]
    shuffled = tetris.scenes(order)
    for name, values in scenes.items():
        np.testing.assert_array_equal(shuffled[name], values[order])
    alone = tetris.scenes([1234])
    np.testing.assert_array_equal(alone["image"][0], scenes["image"][1234])
    assert (tetris.scenes(np.arange(100), seed=1)["image"] != scenes["image"][:100]).any()


@pytest.mark.parametrize(
    "arguments, expected",
    [(dict(seed=0), "a1cd1af21b7bfe33"), (dict(seed=7, size=64), "026dd0b5d18b40c5")],
)
def test_golden_scenes(arguments, expected):
    """A change of one bit makes other datasets under the same name and version."""
    assert digest(tetris.scenes(np.arange(59_990, 60_010), **arguments)) == expected


@pytest.mark.parametrize("size", [tetris.MIN_SIZE, 28, 64])
def test_any_size(size):
    scenes = tetris.scenes(np.arange(20), size=size)
    assert scenes["image"].shape == (20, size, size, 3)
    assert ((scenes["mask"] > 0).sum(axis=(1, 2)) == 300).all()


def test_no_scenes():
    assert tetris.scenes([])["image"].shape == (0, 35, 35, 3)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="`size` must be at least 24"):
        tetris.factors([0], size=23)
    outside = {"x": [[0, 31]], "y": [[0, 0]], "shape": [[0, 1]], "color": np.zeros((1, 2, 3))}
    with pytest.raises(ValueError, match="Pieces must lie inside the 35x35 image. Received: x=31"):
        tetris.render(outside)
    with pytest.raises(ValueError, match=r"`shape` must be in \[0, 19\]"):
        tetris.render({**outside, "shape": [[0, 20]]})
