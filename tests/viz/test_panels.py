"""Figures show the right picture in the right cell, for any size, slots, labels and NaN."""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backends import backend_agg

from tfobj.errors import UserError
from tfobj.viz import canvas, palette, panels


def scenes(num_scenes=2, num_slots=3, size=8, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    masks = rng.dirichlet(np.full(num_slots, 0.1), (num_scenes, size, size)).astype(np.float32)
    masks = np.moveaxis(masks, -1, 1)[..., None]
    slot_recons = rng.random((num_scenes, num_slots, size, size, channels)).astype(np.float32)
    recon = (masks * slot_recons).sum(1)
    return {"image": 1 - recon, "recon": recon, "masks": masks, "slot_recons": slot_recons}


def pictures(figure):
    """Images of the cells in drawing order."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def labels(figure):
    return [text.get_text() for text in figure.texts]


def test_decomposition_cells():
    data = scenes()
    true = np.zeros((2, 8, 8), np.uint8)
    true[:, 2:5, 2:5] = 1
    figure = panels.decomposition_figure(
        **data, true_mask=true, scores={"FG-ARI": [0.5, np.nan]}, title="two scenes"
    )
    cells = pictures(figure)
    assert len(cells) == 2 * (4 + 3)
    np.testing.assert_allclose(cells[0], data["image"][0])
    np.testing.assert_allclose(cells[1], data["recon"][0])
    owner = data["masks"][0, ..., 0].argmax(0)
    owned = data["masks"][0, ..., 0].max(0) >= palette.CONFIDENT_SHARE
    colours = palette.render_segmentation(owner)
    assert 0 < (~owned).sum() < owned.sum()
    np.testing.assert_allclose(cells[2][owned], colours[owned], rtol=1e-6)
    np.testing.assert_allclose(cells[2][~owned], palette.DIMMED * colours[~owned], rtol=1e-6)
    np.testing.assert_allclose(cells[3][0, 0], palette.BACKGROUND, rtol=1e-6)
    expected = palette.over_checkerboard(data["slot_recons"][1, 2], data["masks"][1, 2])
    np.testing.assert_allclose(cells[-1], expected, rtol=1e-6)
    for text in ("two scenes", "input", "truth", "slot 3", "scene 2", "FG-ARI 0.500", "FG-ARI –"):
        assert text in labels(figure)
    assert palette.SEGMENTATION_CAPTION in " ".join(labels(figure))


@pytest.mark.parametrize(
    ("kwargs", "cells"),
    [
        ({"num_scenes": 1, "num_slots": 1}, 4),
        ({"channels": 1}, 12),
        ({"num_slots": 26, "size": 4}, 58),
    ],
)
def test_decomposition_of_unusual_shapes(kwargs, cells):
    figure = panels.decomposition_figure(**scenes(**kwargs))
    assert len(pictures(figure)) == cells
    assert "truth" not in labels(figure)


def test_mask_rows():
    data = scenes()
    figure = panels.decomposition_figure(**data, show_masks=True)
    cells = pictures(figure)
    assert len(cells) == 2 * (3 + 2 * 3)
    np.testing.assert_allclose(cells[4][..., 0], data["masks"][0, 0, ..., 0])


def test_cells_are_whole_multiples_of_small_images():
    assert canvas.cell_size(35, 35) == (175, 175)
    assert canvas.cell_size(64, 64) == (192, 192)
    assert canvas.cell_size(100, 200) == (100, 200)
    assert canvas.cell_size(520, 1040) == (130, 260)


def test_enlarged_pixels_are_exact_squares():
    """Every image pixel covers scale x scale equal pixels, which land on the pixel grid."""
    data = scenes(num_scenes=1, size=10)
    figure = panels.decomposition_figure(**data)
    drawn = canvas.figure_to_array(figure).astype(int)
    target = np.round(data["image"][0] * 255).astype(int).repeat(17, 0).repeat(17, 1)
    axes = figure.axes[3]  # after the three colour bars
    box = axes.get_window_extent()
    top = drawn.shape[0] - round(box.y1)
    left = round(box.x0)
    found = drawn[top : top + 170, left : left + 170]
    inner = (slice(3, -3), slice(3, -3))  # the thin frame covers the border
    assert np.abs(found[inner] - target[inner]).max() <= 1


def test_objects_take_the_colour_of_their_slot_but_not_that_of_the_background():
    true = np.array([[0, 0, 0, 1, 1, 2]])
    predicted = np.array([[2, 2, 2, 0, 0, 2]])
    assert panels.object_slots(true, predicted, 3) == {1: 0, 2: -1}


def test_refinement_strip():
    data = scenes()
    steps = 4
    history = {
        "masks": np.stack([data["masks"]] * steps, 1),
        "recon": np.stack([data["recon"] * (r + 1) / steps for r in range(steps)], 1),
        "loss": np.array([[4.0, 3.0, 2.0, 1.0], [40.0, 30.0, np.nan, 10.0]]),
    }
    true = np.zeros((2, 8, 8), np.uint8)
    figure = panels.refinement_strip(
        history, image=data["image"], true_mask=true, scene=1, title="strip"
    )
    cells = pictures(figure)
    assert len(cells) == 2 + steps * (2 + 3)
    np.testing.assert_allclose(cells[0], data["image"][1])
    np.testing.assert_allclose(cells[2], data["recon"][1] / steps, rtol=1e-5)
    notes = [text.get_text() for text in figure.axes[-1].texts]
    assert notes == ["40", "30", "10"]
    assert {"step 4", "mask 3", "loss", "truth"} <= set(labels(figure))
    assert palette.SEGMENTATION_CAPTION in " ".join(labels(figure))
    bare = panels.refinement_strip({"masks": history["masks"]})
    assert palette.CONFIDENCE_CAPTION in " ".join(labels(bare))
    assert len(pictures(bare)) == steps * (1 + 3)
    one_loss = panels.refinement_strip({"masks": history["masks"], "loss": np.full(steps, 7.0)})
    canvas.figure_to_png(one_loss)


def test_masks_grid_tints_masks():
    data = scenes()
    cells = pictures(panels.masks_grid(data["masks"], data["image"], title="masks"))
    assert len(cells) == 2 * 4
    np.testing.assert_allclose(cells[2], data["masks"][0, 1] * palette.SLOT_COLOURS[1], rtol=1e-5)
    assert len(pictures(panels.masks_grid(data["masks"]))) == 2 * 3


def test_save_is_atomic_and_repeatable(tmp_path):
    figure = panels.masks_grid(scenes()["masks"])
    path = canvas.save_figure(figure, tmp_path / "deep" / "masks.png")
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    canvas.save_figure(figure, path)
    assert path.read_bytes() == first
    with pytest.raises(ValueError):
        canvas.save_figure(figure, tmp_path / "deep" / "masks.nonsense")
    assert [p.name for p in path.parent.iterdir()] == ["masks.png"]
    assert canvas.figure_to_array(figure).dtype == np.uint8


def test_figures_are_not_registered_with_pyplot():
    """pyplot keeps every figure it knows alive, and picks a backend that may need a display."""
    figure = panels.masks_grid(scenes()["masks"])
    assert type(figure.canvas) is backend_agg.FigureCanvasAgg
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recon": np.zeros((2, 8, 8, 1))}, "`image` and `recon` must have one shape"),
        (
            {"masks": np.zeros((2, 3, 8, 8))},
            r"`masks` must have shape \[B, K, H, W, 1\] = \(2, 3, 8, 8, 1\)",
        ),
        (
            {"slot_recons": np.zeros((2, 4, 8, 8, 3))},
            r"`slot_recons` must have shape .* Received: \(2, 4, 8, 8, 3\)",
        ),
    ],
)
def test_errors(change, message):
    with pytest.raises(UserError, match=message):
        panels.decomposition_figure(**{**scenes(), **change})
