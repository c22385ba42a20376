"""Figures of edits: slots under their numbers, and the results of every edit in its row."""

import numpy as np
import painted_scenes as painted
import pytest

from tfobj.viz import editing, palette


def facts():
    slots = painted.two_scenes()[0]
    found = painted.decode(slots[None])
    return {
        "image": 1 - found.recon[0],
        "recon": found.recon[0],
        "masks": found.masks[0],
        "slot_recons": found.slot_recons[0],
    }, slots


def cells(figure):
    return [axes for axes in figure.axes if axes.images]


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in cells(figure)]


def labels(figure):
    return [text.get_text() for text in figure.texts]


def test_slots_of_a_model_with_depths():
    data, slots = facts()
    amodal = painted.place(slots[None])[0]
    figure = editing.slots_figure(
        **data,
        positions=painted.LAYOUT.positions(slots),
        depths=painted.LAYOUT.depths(slots),
        background=3,
        amodal_masks=amodal,
        title="slots",
    )
    shown = pictures(figure)
    assert len(shown) == 3 + 4
    np.testing.assert_allclose(shown[0], data["image"], atol=1e-6)
    np.testing.assert_allclose(shown[1], data["recon"], atol=1e-6)
    for k in range(4):
        np.testing.assert_allclose(
            shown[3 + k], palette.over_checkerboard(data["slot_recons"][k], amodal[k]), atol=1e-6
        )
    assert {
        "slots",
        "slot 1",
        "slot 4",
        "row 4.0, column 10.0",
        "depth 1 of 3",
        "depth 3 of 3",
        "background",
    } <= set(labels(figure))
    assert labels(figure).count("background") == 1 and "7.7 % visible" in labels(figure)
    numbers = {text.get_text(): text.get_position() for text in cells(figure)[2].texts}
    assert set(numbers) == {"1", "2", "3", "4"}
    for number, (column, row) in numbers.items():
        assert (
            data["masks"][int(number) - 1, int(row), int(column), 0] == 1.0
        )  # every number lies on its slot
    assert [len(axes.lines) for axes in cells(figure)[3:]] == [2, 2, 2, 0]


def test_slots_of_a_model_without_parts_or_with_an_empty_slot():
    data, _ = facts()
    data["masks"] = np.concatenate([data["masks"], np.zeros_like(data["masks"][:1])])
    data["slot_recons"] = np.concatenate([data["slot_recons"], data["slot_recons"][:1]])
    figure = editing.slots_figure(**data, numbers=(1, 2, 4, 5, 7))
    shown = pictures(figure)
    np.testing.assert_allclose(
        shown[3], palette.over_checkerboard(data["slot_recons"][0], data["masks"][0]), atol=1e-6
    )
    assert {"slot 4", "slot 7", "0.0 % visible"} <= set(labels(figure))
    assert "slot 3" not in labels(figure)
    assert [text.get_text() for text in cells(figure)[2].texts] == ["1", "2", "4", "5"]
    assert not any(label.startswith(("row", "depth")) for label in labels(figure))
    np.testing.assert_allclose(
        shown[2][4, 10], palette.slot_colours(4)[3], atol=1e-6
    )  # the third slot is number 4


def test_inner_pixel():
    inside = np.zeros((7, 9), bool)
    inside[1:6, 2:7] = True
    assert tuple(editing.inner_pixel(inside)) == (3, 4)
    assert editing.inner_pixel(~np.ones((3, 3), bool)) is None
    assert editing.inner_pixel(np.ones((3, 3), bool)) is not None


def test_every_edit_has_its_row():
    rng = np.random.default_rng(0)
    first, last, *frames = rng.random((6, 5, 4, 3))
    figure = editing.edits_figure(
        [("input", first), ("reconstruction", last)],
        [("move:slot=1,rows=5", [last]), ("interpolate", frames)],
        title="edits",
    )
    np.testing.assert_allclose(pictures(figure), [first, last, last, *frames], atol=1e-6)
    top = [round(axes.get_position().y1, 3) for axes in cells(figure)]
    assert top[0] == top[1] > top[2] > top[3] and len(set(top[3:])) == 1
    assert {"edits", "input", "scene", "move", "slot=1\nrows=5", "interpolate"} <= set(
        labels(figure)
    )


@pytest.mark.parametrize("numbers, expected", [((1, 2), (0, 1)), ((3, 1), (2, 0))])
def test_segmentations_keep_the_colours_of_numbers(numbers, expected):
    masks = np.zeros((2, 2, 2, 1))
    masks[0, 0] = 1.0
    masks[1, 1] = 1.0
    painted_slots = editing.render_slots(masks, numbers)
    np.testing.assert_allclose(painted_slots[:, 0], palette.SLOT_COLOURS[list(expected)])
