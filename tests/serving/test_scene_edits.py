"""Edits of the command line on a scene: numbered from 1 through all changes, mistakes named."""

import numpy as np
import painted_scenes as painted
import pytest
from painted_scenes import LAYOUT

from tfobj.errors import UserError
from tfobj.serving import edit_syntax, editing, scene_edits
from tfobj.serving.slot_layout import SlotLayout

LATENT = SlotLayout({"latent": (0, 4)}, (8, 8), 3)
VAE = SlotLayout({"latent": (0, 4)}, (8, 8), 1)


@pytest.fixture
def scenes():
    """Two `EditedScene`s."""
    return [scene_edits.EditedScene.of(slots) for slots in painted.two_scenes()]


def run(scenes, *texts, **options):
    """Applies edits one after the other; returns (frames of the last, scene)."""
    scene = scenes[0]
    frames = None
    for text in texts:
        edit = edit_syntax.parse(text)
        frames, scene = scene_edits.apply(edit, scene, LAYOUT, scenes[1], **options)
        np.testing.assert_array_equal(frames[-1], scene.slots)
    return frames, scene


@pytest.mark.parametrize(
    "text, expected",
    [
        ("move:slot=1,rows=2,columns=-1", lambda a, b: editing.move(a, LAYOUT, 0, 2, -1)),
        ("move:slot=2,row=5", lambda a, b: editing.place(a, LAYOUT, 1, row=5)),
        ("depth:slot=2,to=front", lambda a, b: editing.to_front(a, LAYOUT, 1)),
        ("depth:slot=1,to=back", lambda a, b: editing.to_back(a, LAYOUT, 0)),
        ("depth:order=2+3+1", lambda a, b: editing.reorder(a, LAYOUT, [1, 2, 0])),
        ("swap:slots=1+3", lambda a, b: editing.swap(a, LAYOUT, 0, 2)),
        (
            "swap:slots=1+3,part=appearance",
            lambda a, b: editing.swap(a, LAYOUT, 0, 2, "appearance"),
        ),
        ("swap:slot=1,other=3", lambda a, b: editing.swap_between(a, b, LAYOUT, 0, 2)[0]),
        (
            "swap:slot=1,other=3,part=appearance",
            lambda a, b: editing.swap_between(a, b, LAYOUT, 0, 2, "appearance")[0],
        ),
        ("remove:slot=1", lambda a, b: editing.remove(a, LAYOUT, 0)),
        ("remove:slots=3+1", lambda a, b: editing.remove(a, LAYOUT, 0, 2)),
        ("insert:other=2", lambda a, b: editing.insert(a, LAYOUT, b[1])),
        (
            "insert:other=2,column=7",
            lambda a, b: editing.insert(a, LAYOUT, editing.place(b, LAYOUT, 1, column=7)[1]),
        ),
        ("duplicate:slot=3,rows=1", lambda a, b: editing.duplicate(a, LAYOUT, 2, 1)),
        ("set:slot=4,latent=1,value=0.25", lambda a, b: editing.set_latent(a, LAYOUT, 3, 0, 0.25)),
        (
            "set:slot=1,latent=1,value=0.25,part=depth",
            lambda a, b: editing.set_latent(a, LAYOUT, 0, 0, 0.25, "depth"),
        ),
    ],
)
def test_every_edit_is_the_one_of_the_library(scenes, text, expected):
    frames, _ = run(scenes, text)
    np.testing.assert_array_equal(frames, expected(scenes[0].slots, scenes[1].slots)[None])


def test_a_traversal_takes_equal_steps(scenes):
    frames, _ = run(scenes, "traverse:slot=1,latent=2,from=0,to=1,num=3")
    np.testing.assert_array_equal(frames[:, 0, 1], [0.0, 0.5, 1.0])


def test_interpolations_are_those_of_the_library(scenes):
    frames, _ = run(scenes, "interpolate:part=position,num=4")
    np.testing.assert_array_equal(
        frames, editing.interpolate(scenes[0].slots, scenes[1].slots, LAYOUT, "position", 4)
    )
    frames, _ = run(scenes, "interpolate:slots=1+2,part=appearance")
    np.testing.assert_array_equal(
        frames, editing.interpolate_objects(scenes[0].slots, LAYOUT, 0, 1, "appearance", 7)
    )


def test_usual_values_come_from_the_examples(scenes):
    examples = np.zeros((3, 4, 6), np.float32)
    examples[:, :3, 0] = np.linspace(0, 1, 9).reshape(3, 3)
    examples[:, 3, 0] = [10, 11, 12]
    frames, _ = run(scenes, "remove:slots=1+2", "traverse:slot=3,latent=1", examples=examples)
    np.testing.assert_allclose(frames[[0, -1], 0, 0], [0.05, 0.95])

    # Slot 4 is the background, which has index 1 once two slots are removed.
    frames, _ = run(scenes, "remove:slots=1+2", "traverse:slot=4,latent=1", examples=examples)
    np.testing.assert_allclose(frames[[0, -1], 1, 0], [10.1, 11.9])


def test_objects_keep_their_numbers(scenes):
    _, scene = run(
        scenes,
        "remove:slot=1",
        "duplicate:slot=2",
        "remove:slot=2",
        "move:slot=5,row=0",
        "insert:other=1",
    )
    assert scene.numbers == (3, 5, 6, 4)
    np.testing.assert_array_equal(
        scene.slots[[0, 2, 3]], [scenes[0].slots[2], scenes[1].slots[0], scenes[0].slots[3]]
    )
    # Number 5 is the copy of slot 2, at its column.
    np.testing.assert_allclose(LAYOUT.positions(scene.slots)[1], [0, 4], atol=1e-5)


def test_a_number_is_never_given_twice(scenes):
    _, scene = run(scenes, "duplicate:slot=1", "remove:slot=5", "duplicate:slot=1")
    assert scene.numbers == (1, 2, 3, 6, 4)


def test_an_edit_of_a_removed_slot_is_refused(scenes):
    message = (
        "`slot` of --edit=move must be one of 2, 3, 4. "
        "Received: slot=1, which an earlier edit removed."
    )
    with pytest.raises(UserError, match=message):
        run(scenes, "remove:slot=1", "move:slot=1,rows=1")


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "move:rows=1",
            "`slot` of --edit=move is missing, as in move:slot=1,rows=5,columns=-8. "
            "Received: move:rows=1.",
        ),
        (
            "move:slot=1",
            "`--edit=move` must have rows= and columns= (a shift in pixels) or row= and column= "
            "(a place). Received: move:slot=1.",
        ),
        ("move:slot=1,rows=1,row=1", "`--edit=move` must have rows= and columns="),
        (
            "move:slot=4,rows=1",
            "`move` must be given an object. Received: the slot of the background.",
        ),
        (
            "move:slot=0,rows=1",
            "`slot` of --edit=move must be one of 1, 2, 3, 4. Received: slot=0.",
        ),
        (
            "move:slot=9,rows=1",
            "`slot` of --edit=move must be one of 1, 2, 3, 4. Received: slot=9.",
        ),
        ("depth:slot=1", "`to` of --edit=depth is missing"),
        ("depth:slot=1,to=fron", "Unknown place in depth (to=) 'fron'. Did you mean 'front'?"),
        ("depth:slot=1,to=front,order=1+2", "`--edit=depth` must have order= or slot=, not both."),
        (
            "depth:order=1+1",
            "`order` of --edit=depth must be different slots. Received: order=1+1.",
        ),
        (
            "swap:slots=1+2+3",
            "`slots` of --edit=swap must be two slots, as in slots=1+2. Received: slots=1+2+3.",
        ),
        (
            "swap:slots=1+2,part=colour",
            "Unknown part of a slot 'colour'. Valid: appearance, depth, position.",
        ),
        ("swap:part=depth", "`slot` (or `slots`) of --edit=swap is missing"),
        ("swap:slot=1", "`other` of --edit=swap is missing"),
        (
            "swap:slot=1,other=8",
            "`other` of --edit=swap must be one of 1, 2, 3, 4. Received: other=8.",
        ),
        ("insert:row=1", "`other` of --edit=insert is missing"),
        ("insert:other=4", "`insert` must be given an object."),
        (
            "set:slot=1,latent=4,value=1",
            "`latent` of --edit=set must be in 1 ... 3. Received: latent=4.",
        ),
        ("set:slot=1,latent=1", "`value` of --edit=set is missing"),
        ("traverse:slot=1,latent=0", "`latent` of --edit=traverse must be in 1 ... 3."),
        (
            "traverse:slot=1,latent=1,num=0",
            "`num` of --edit=traverse must be at least 1. Received: num=0.",
        ),
        ("interpolate:num=1", "`num` of --edit=interpolate must be at least 2. Received: num=1."),
    ],
)
def test_options_out_of_range_are_named(scenes, text, message):
    with pytest.raises(UserError) as caught:
        run(scenes, text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["swap:slot=1", "insert:row=1"])
def test_a_missing_option_is_named_without_a_second_scene_too(scenes, text):
    with pytest.raises(UserError, match="`other` of --edit=.* is missing"):
        scene_edits.apply(edit_syntax.parse(text), scenes[0], LAYOUT)


@pytest.mark.parametrize(
    "text", ["swap:slot=1,other=2", "insert:other=1", "interpolate", "interpolate:part=position"]
)
def test_a_missing_second_scene_is_named(scenes, text):
    with pytest.raises(UserError) as caught:
        scene_edits.apply(edit_syntax.parse(text), scenes[0], LAYOUT)
    expected = f"`--edit={text}` needs a second scene: give --other=NUMBER, or a second picture."
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "layout, text, message",
    [
        (
            LATENT,
            "move:slot=1,rows=1",
            "`move` must be given a model whose slots have a part 'position'.",
        ),
        (
            LATENT,
            "depth:slot=1,to=front",
            "`depth` must be given a model whose slots have a part 'depth'.",
        ),
        (
            LATENT,
            "insert:other=1,row=3",
            "`move` must be given a model whose slots have a part 'position'.",
        ),
        (VAE, "remove:slot=1", "`remove` must be given a model with several slots"),
        (VAE, "swap:slots=1+2", "`swap` must be given a model with several slots"),
    ],
)
def test_edits_that_the_model_does_not_allow_are_refused(layout, text, message):
    scene = scene_edits.EditedScene.of(np.zeros((layout.num_slots, 4)))
    with pytest.raises(UserError, match=message) as caught:
        scene_edits.apply(edit_syntax.parse(text), scene, layout, scene)
    assert "This model allows: set, traverse, interpolate" in str(caught.value)


def test_examples_of_the_help_are_edits(scenes):
    assert set(edit_syntax.EXAMPLES) == {
        "move",
        "depth",
        "swap",
        "remove",
        "insert",
        "duplicate",
        "set",
        "traverse",
        "interpolate",
    }
    for text in edit_syntax.EXAMPLES.values():
        run(scenes, text)
