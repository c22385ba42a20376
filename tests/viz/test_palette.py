"""Colours stay distinct for normal and colour-blind eyes; pictures are what their ids say."""

import itertools

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.viz import palette

# Machado, Oliveira and Fernandes 2009, severity 1.0; rows act on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868],
         [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968],
         [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
}  # fmt: skip


def oklab(rgb, sight):
    """Ottosson 2020: perceptual coordinates of sRGB colours after a loss of colour vision."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ SIGHT[sight].T, 0, 1)
    lms = linear @ np.array(
        [[0.4122214708, 0.2119034982, 0.0883024619],
         [0.5363325363, 0.6806995451, 0.2817188376],
         [0.0514459929, 0.1073969566, 0.6299787005]]
    )  # fmt: skip
    return np.cbrt(lms) @ np.array(
        [[0.2104542553, 1.9779984951, 0.0259040371],
         [0.7936177850, -2.4285922050, 0.7827717662],
         [-0.0040720468, 0.4505937099, -0.8086757660]]
    )  # fmt: skip


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(("first", "least"), [(8, 0.07), (24, 0.05)])
def test_slot_colours_are_far_apart(sight, first, least):
    """0.02 is about the least difference one sees between neighbouring fields."""
    colours = np.concatenate([palette.slot_colours(first), [palette.BACKGROUND, np.ones(3)]])
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(oklab(colours, sight), 2)]
    assert min(distances) > least


def test_a_slot_keeps_its_colour_whatever_their_number():
    np.testing.assert_array_equal(palette.slot_colours(5), palette.slot_colours(30)[:5])
    assert len({tuple(colour) for colour in palette.slot_colours(72)}) == 72
    assert len(palette.SLOT_COLOURS) == 24


def test_segmentation_shows_the_colour_of_the_id():
    ids = np.array([[[0, 2], [1, 1]]])
    picture = palette.render_segmentation(ids)
    assert picture.shape == (1, 2, 2, 3)
    np.testing.assert_array_equal(picture[0, 0, 1], palette.SLOT_COLOURS[2])
    with pytest.raises(UserError, match="a row for every id up to 2. Received: 2 rows"):
        palette.render_segmentation(ids, palette.slot_colours(2))


def test_segmentation_is_dimmed_where_no_slot_visibly_draws():
    """Four pixels of two slots: owned and visible, owned and black, contested and visible, both."""
    masks = np.array([[0.9, 0.9, 0.45, 0.1], [0.05, 0.05, 0.4, 0.45], [0.05, 0.05, 0.15, 0.45]])
    masks = masks.reshape(3, 1, 4, 1)
    recon = np.array([[0.0, 0.0, 0.04], [0.039, 0.039, 0.039], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    recon = recon.reshape(1, 4, 3)
    first = palette.SLOT_COLOURS[0]
    second = palette.SLOT_COLOURS[1]

    assert palette.visibly_owned(masks, recon).tolist() == [[True, False, False, False]]
    picture = palette.render_masks(masks, recon)[0]
    np.testing.assert_allclose(picture, [first, 0.25 * first, 0.25 * first, 0.25 * second])

    # Without a reconstruction, only the confidence counts; slots keep colours of their own.
    own = palette.SLOT_COLOURS[3:6]
    picture = palette.render_masks(masks, colours=own)[0]
    np.testing.assert_allclose(picture, [own[0], own[0], 0.25 * own[0], 0.25 * own[1]])

    clips = palette.render_masks(np.stack([masks, masks]), np.stack([recon, recon]))
    np.testing.assert_array_equal(clips[1], palette.render_masks(masks, recon))
    assert palette.visibly_owned(masks, recon[..., 2:]).tolist() == [[True, False, False, False]]


def test_true_masks_show_background_ignored_matched_and_missed():
    true = np.array([[0, 255, 1, 2, 3]], np.uint8)
    picture = palette.render_true_mask(true, {1: 4, 2: -1, 3: -1})[0]
    expected = [
        palette.BACKGROUND,
        palette.IGNORED,
        palette.SLOT_COLOURS[4],
        np.full(3, 1.0),
        np.full(3, 0.8),
    ]
    np.testing.assert_allclose(picture, expected)
    np.testing.assert_allclose(palette.render_true_mask(true)[0, 3], palette.SLOT_COLOURS[2])


def test_checkerboard_shows_only_where_alpha_lets_it():
    picture = np.full((16, 16, 3), 0.5, np.float32)
    alpha = np.zeros((16, 16, 1), np.float32)
    alpha[:8] = 1.0
    composed = palette.over_checkerboard(picture, alpha)
    assert (composed[:8] == 0.5).all()
    np.testing.assert_allclose(composed[8:], palette.checkerboard(16, 16)[8:], rtol=1e-6)
    assert len(np.unique(composed[8:])) == 2
    assert palette.checkerboard(3, 5).shape == (3, 5, 3)


def test_rgb_of_grey_out_of_range_and_nan():
    picture = np.array([[[2.0], [-1.0], [np.nan]]])
    np.testing.assert_array_equal(palette.to_rgb(picture)[0], [[1, 1, 1], [0, 0, 0], [1, 0, 1]])
    with pytest.raises(UserError, match="Received: shape"):
        palette.to_rgb(np.zeros((4, 4, 2)))
