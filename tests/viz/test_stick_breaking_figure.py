"""The figure of stick breaking shows the right picture in every cell, in grey and in colour."""

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.viz import palette
from tfobj.viz.stick_breaking import stick_breaking_figure


def scenes(num_scenes=2, num_slots=3, size=8, channels=3):
    rng = np.random.default_rng(0)
    masks = np.moveaxis(rng.dirichlet(np.full(num_slots, 0.2), (num_scenes, size, size)), -1, 1)[
        ..., None
    ]
    scopes = 1 - np.cumsum(masks, 1) + masks
    return {
        "image": rng.random((num_scenes, size, size, channels)),
        "scopes": scopes,
        "masks": masks,
        "slot_recons": rng.random((num_scenes, num_slots, size, size, channels)),
    }


def pictures(figure):
    """Images of the cells in drawing order."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_cells():
    data = scenes()
    figure = stick_breaking_figure(**data, title="steps")
    cells = pictures(figure)
    assert len(cells) == 2 * (2 + 4 * 3)
    scene = 1
    slot = 2
    of_scene = cells[14:]
    np.testing.assert_allclose(of_scene[0], data["image"][scene])
    np.testing.assert_allclose(
        of_scene[1], (data["masks"][scene] * data["slot_recons"][scene]).sum(0)
    )
    scope, mask, component, masked = of_scene[2 + 4 * slot :]
    np.testing.assert_allclose(scope, palette.to_rgb(data["scopes"][scene, slot]))
    np.testing.assert_allclose(mask, data["masks"][scene, slot] * palette.SLOT_COLOURS[slot])
    np.testing.assert_allclose(component, data["slot_recons"][scene, slot])
    np.testing.assert_allclose(
        masked,
        palette.over_checkerboard(data["slot_recons"][scene, slot], data["masks"][scene, slot]),
    )
    labels = [text.get_text() for text in figure.texts]
    assert {"steps", "scope", "mask", "component", "masked", "slot 3"} <= set(labels)
    assert labels.count("scope") == 2


def test_cells_stand_in_rows_by_kind_and_columns_by_slot():
    data = scenes(num_scenes=1)
    axes = [axes for axes in stick_breaking_figure(**data).axes if axes.images]
    left = [round(a.get_position().x0, 4) for a in axes[2:]]
    top = [round(a.get_position().y1, 4) for a in axes[2:]]
    assert left == sorted(left) and len(set(left)) == 3  # drawn slot by slot
    assert top[:4] == sorted(top[:4], reverse=True) and top == top[:4] * 3


@pytest.mark.parametrize(
    "shape, cells",
    [
        ({"num_scenes": 1, "num_slots": 2, "channels": 1}, 10),
        ({"num_scenes": 1, "num_slots": 11, "size": 4}, 46),
    ],
)
def test_unusual_shapes(shape, cells):
    assert len(pictures(stick_breaking_figure(**scenes(**shape)))) == cells


@pytest.mark.parametrize(
    "name, shape",
    [("scopes", (2, 2, 8, 8, 1)), ("masks", (2, 3, 8, 8)), ("slot_recons", (2, 3, 8, 8, 1))],
)
def test_errors(name, shape):
    with pytest.raises(UserError, match=f"`{name}` must have shape .* Received: "):
        stick_breaking_figure(**{**scenes(), name: np.zeros(shape)})
