"""Complete objects from near to far: which, in which order, with which outline; and samples."""

import numpy as np
import painted_scenes as painted
import pytest

from tfobj.errors import UserError
from tfobj.viz import layers, palette
from tfobj.viz.samples import samples_figure


def outputs():
    """Returns arrays of two scenes of three squares.

    The second square of the second scene lies beyond the border.
    """
    slots = np.stack(painted.two_scenes())
    slots[1, 1, 4] = -3.0
    found = painted.decode(slots)
    return {
        "image": 1 - found.recon,
        "recon": found.recon,
        "masks": found.masks,
        "slot_recons": found.slot_recons,
        "amodal_masks": painted.place(slots),
        "depths": painted.LAYOUT.depths(slots),
    }


def cells(figure):
    """Axes of the cells with pictures, in drawing order."""
    return [axes for axes in figure.axes if axes.images]


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in cells(figure)]


def tags(axes):
    return [text.get_text() for text in axes.texts]


def test_objects_stand_from_near_to_far():
    """Scene 1 has red (0.0), blue (0.5) and green (1.0), scene 2 yellow (-0.2) and magenta (0.1).

    The third object of scene 2 is absent.
    """
    data = outputs()
    figure = layers.layers_figure(**data, title="layers")
    shown = pictures(figure)
    assert len(shown) == (3 + 3 + 1) + (3 + 2 + 1)
    complete = palette.over_checkerboard(data["slot_recons"], data["amodal_masks"])
    for cell, slot in zip(range(3, 7), (0, 2, 1, 3), strict=True):
        np.testing.assert_allclose(shown[cell], complete[0, slot], atol=1e-6)
    for cell, slot in zip(range(10, 13), (0, 2, 3), strict=True):
        np.testing.assert_allclose(shown[cell], complete[1, slot], atol=1e-6)
    np.testing.assert_allclose(shown[7], data["image"][1], atol=1e-6)
    np.testing.assert_allclose(
        shown[2],
        palette.render_segmentation(data["masks"][0, ..., 0].argmax(0), palette.slot_colours(4)),
        atol=1e-6,
    )
    assert [tags(axes) for axes in cells(figure)[3:7]] == [
        ["slot 1"],
        ["slot 3"],
        ["slot 2"],
        ["slot 4"],
    ]
    assert {"layers", "nearest", "depth 2", "depth 3", "background", "scene 2"} <= {
        text.get_text() for text in figure.texts
    }
    assert "truth" not in {text.get_text() for text in figure.texts}


def test_columns_are_ranks():
    """The background's column is one and the same, though the second scene has an object less."""
    axes = cells(layers.layers_figure(**outputs()))
    assert (
        axes[6].get_position().x0
        == axes[12].get_position().x0
        > axes[5].get_position().x0
        > axes[11].get_position().x0
    )


def test_near_to_far():
    masks = np.zeros((4, 2, 2, 1))
    masks[:, 0, 0] = np.array([0.6, 0.5, 0.49, 1.0])[:, None]
    assert layers.near_to_far(masks, [0.3, 0.1, 0.0, 0.9], background=3) == [1, 0]
    assert layers.near_to_far(masks, [0.3, 0.3, 0.0, -1.0]) == [3, 0, 1]


def test_the_outline_is_that_of_the_visible_part():
    """Two pixels side by side have six edges, also at the border of the picture."""
    inside = np.zeros((3, 4), bool)
    inside[0, 2:] = True
    edges = {tuple(map(tuple, edge)) for edge in layers.border_segments(inside).tolist()}
    assert edges == {
        ((1.5, -0.5), (2.5, -0.5)),
        ((2.5, -0.5), (3.5, -0.5)),
        ((1.5, 0.5), (2.5, 0.5)),
        ((2.5, 0.5), (3.5, 0.5)),
        ((1.5, -0.5), (1.5, 0.5)),
        ((3.5, -0.5), (3.5, 0.5)),
    }
    assert len(layers.border_segments(np.zeros((3, 4), bool))) == 0
    figure = layers.layers_figure(**outputs())
    red, blue, green = cells(figure)[3:6]
    assert [len(axes.collections[-1].get_segments()) for axes in (red, blue, green)] == [
        12,
        12,
        12,
    ]  # 3 x 3 pixels, or an L of 5 in them
    assert {tuple(map(tuple, s)) for s in green.collections[-1].get_segments()} == {
        tuple(map(tuple, s))
        for s in layers.border_segments(outputs()["masks"][0, 1, ..., 0] > 0.5).tolist()
    }
    assert not cells(figure)[6].collections  # the background
    np.testing.assert_allclose(red.collections[-1].get_colors()[0, :3], palette.SLOT_COLOURS[0])
    assert red.get_xlim() == (-0.5, 12.5)


def test_an_object_that_is_hidden_altogether_is_shown_without_outline():
    data = outputs()
    data["masks"] = np.zeros_like(data["masks"])
    data["masks"][:, 3] = 1.0
    assert all(not axes.collections for axes in cells(layers.layers_figure(**data)))


def test_positions_are_marked():
    positions = np.full((2, 4, 2), -1.0)
    positions[0, 0] = 3, 3
    figure = layers.layers_figure(**outputs(), positions=positions)
    marked = cells(figure)[3].lines
    assert len(marked) == 2 and list(marked[1].get_xydata()[0]) == [3, 3]
    assert not cells(figure)[4].lines
    assert cells(figure)[3].get_xlim() == (-0.5, 12.5)
    assert cells(figure)[3].get_ylim() == (8.5, -0.5)


def test_truth_takes_the_colours_of_the_slots():
    data = outputs()
    ids = data["masks"][..., 0].argmax(1)
    true = np.select([ids == 0, ids == 2, ids == 1], [1, 2, 3], 0).astype(np.uint8)
    figure = layers.layers_figure(**data, true_mask=true, scene_names=["a", "b"])
    shown = pictures(figure)
    np.testing.assert_allclose(shown[3][3, 3], palette.SLOT_COLOURS[0], atol=1e-6)
    np.testing.assert_allclose(shown[3][4, 10], palette.SLOT_COLOURS[2], atol=1e-6)
    np.testing.assert_allclose(shown[3][0, 0], palette.BACKGROUND, atol=1e-6)
    assert {"truth", "a", "b"} <= {text.get_text() for text in figure.texts}


def test_scenes_without_objects_or_background():
    data = outputs()
    nothing = {**data, "amodal_masks": data["amodal_masks"] * 0.4}
    assert len(cells(layers.layers_figure(**nothing))) == 2 * (3 + 1)
    assert len(cells(layers.layers_figure(**nothing, background=None))) == 2 * 3
    assert len(cells(layers.layers_figure(**data, background=None))) == 2 * 3 + 4 + 3


def test_grey_pictures():
    data = {
        name: value[..., :1] if name in ("image", "recon", "slot_recons") else value
        for name, value in outputs().items()
    }
    assert len(cells(layers.layers_figure(**data))) == 13


@pytest.mark.parametrize(
    "name, shape",
    [
        ("masks", (2, 4, 9, 13)),
        ("masks", (2, 4, 9, 12, 1)),
        ("amodal_masks", (2, 3, 9, 13, 1)),
        ("slot_recons", (2, 4, 9, 13, 1)),
        ("depths", (2, 3)),
    ],
)
def test_errors(name, shape):
    with pytest.raises(UserError, match=f"`{name}` .*Received: .*"):
        layers.layers_figure(**{**outputs(), name: np.zeros(shape)})


def test_samples_fill_rows():
    drawn = np.random.default_rng(0).random((11, 6, 5, 3)) * 1.2 - 0.1
    figure = samples_figure(drawn, columns=4, title="samples")
    shown = pictures(figure)
    np.testing.assert_allclose(shown, np.clip(drawn, 0, 1), atol=1e-6)
    places = [
        (round(axes.get_position().y1, 3), round(axes.get_position().x0, 3))
        for axes in cells(figure)
    ]
    assert len({y for y, _ in places}) == 3
    assert len({x for _, x in places}) == 4
    assert places[3][0] == places[0][0] > places[4][0]
    assert len(cells(samples_figure(drawn[:2, ..., :1]))) == 2
    with pytest.raises(
        UserError,
        match=(
            r"`recon` must have shape \[n, H, W, C\] with n at least 1. "
            r"Received: \(0, 6, 5, 3\)."
        ),
    ):
        samples_figure(drawn[:0])
