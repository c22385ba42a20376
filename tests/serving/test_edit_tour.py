"""The tour: one edit of each kind that a model allows, on its largest object."""

import numpy as np
import painted_scenes as painted
import pytest
from painted_scenes import LAYOUT

from tfobj.serving import edit_tour, scene_edits
from tfobj.serving.slot_layout import SlotLayout

AREAS = [[9, 5, 20, 83], [9, 9, 30, 0]]
LATENT = SlotLayout({"latent": (0, 4)}, (8, 8), 3)
VAE = SlotLayout({"latent": (0, 4)}, (8, 8), 1)


@pytest.fixture
def scenes():
    """Two `EditedScene`s."""
    return [scene_edits.EditedScene.of(slots) for slots in painted.two_scenes()]


@pytest.fixture
def examples(scenes):
    return np.stack([scene.slots for scene in scenes])


def test_tour_has_one_of_each_kind(scenes, examples):
    edits = edit_tour.tour(scenes[0], LAYOUT, AREAS, scenes[1], examples)
    assert {edit.name for edit in edits} == set(LAYOUT.possible_edits()) - {"set"}

    # Slot 3 is the largest object of both scenes.
    texts = [edit.text for edit in edits]
    assert "move:slot=3,rows=2,columns=-3" in texts
    assert "swap:slot=3,other=3" in texts
    assert "swap:slots=3+1,part=appearance" in texts


def test_every_edit_of_the_tour_can_be_applied_and_decoded(scenes, examples):
    for edit in edit_tour.tour(scenes[0], LAYOUT, AREAS, scenes[1], examples):
        frames, _ = scene_edits.apply(edit, scenes[0], LAYOUT, scenes[1], examples)
        assert np.isfinite(frames).all()
        is_path = edit.name in ("traverse", "interpolate")
        assert len(frames) == (7 if is_path else 1)
        np.testing.assert_allclose(painted.decode(frames).masks.sum(1), 1.0)


def test_tour_of_one_scene_has_the_edits_that_need_no_other(scenes, examples):
    edits = edit_tour.tour(scenes[0], LAYOUT, AREAS, scenes[1], examples)
    of_one_scene = edit_tour.tour(scenes[0], LAYOUT, AREAS[:1])
    assert not any(edit.needs_other() for edit in of_one_scene)
    assert len(of_one_scene) == len([edit for edit in edits if not edit.needs_other()])


def test_tour_of_a_model_without_parts():
    scene = scene_edits.EditedScene.of(np.arange(12.0).reshape(3, 4))
    edits = edit_tour.tour(scene, LATENT, [[50, 4, 10]] * 2, scene)
    assert [edit.text for edit in edits] == [
        "remove:slot=3",
        "duplicate:slot=3",
        "swap:slot=3,other=3",
        "insert:other=3",
        "traverse:slot=3,latent=1",
        "traverse:slot=3,latent=2",
        "interpolate",
    ]


def test_tour_of_a_model_with_one_slot_traverses_what_varies_most():
    scene = scene_edits.EditedScene.of(np.zeros((1, 4)))
    examples = np.zeros((5, 1, 4))
    examples[:, 0, 2] = np.arange(5)
    edits = edit_tour.tour(scene, VAE, [[64]], None, examples)
    assert [edit.text for edit in edits] == [
        "traverse:slot=1,latent=3",
        "traverse:slot=1,latent=1",
    ]
