"""Edits of slots: which numbers they change, how a decoder renders them, what models refuse."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import painted_scenes as painted
import pytest
from painted_scenes import BLUE, GREEN, GREY, LAYOUT, RED

from tfobj.errors import UserError
from tfobj.serving import editing
from tfobj.serving.slot_layout import SlotLayout, layout_of_metadata

LATENT = SlotLayout({"latent": (0, 4)}, (8, 8), 3)
GENESIS = SlotLayout({"mask": (0, 2), "component": (2, 6)}, (8, 8), 3)
VAE = SlotLayout({"latent": (0, 4)}, (8, 8), 1)


@pytest.fixture
def slots():
    return painted.two_scenes()[0]


@pytest.fixture
def other():
    return painted.two_scenes()[1]


def assert_colour(slots, row, column, colour):
    np.testing.assert_allclose(painted.picture(slots)[row, column], colour, atol=1e-6)


def assert_only_changed(before, after, *changed):
    """Asserts that only the (slot, number) pairs `changed` differ."""
    found = {tuple(map(int, place)) for place in np.argwhere(before != after)}
    assert found == set(changed)


def test_the_decoder_of_these_tests_paints_squares(slots):
    """The decoder that the other tests trust: red before green, grey around, blue alone."""
    assert_colour(slots, 3, 3, RED)
    assert_colour(slots, 4, 4, RED)
    assert_colour(slots, 5, 5, GREEN)
    assert_colour(slots, 4, 10, BLUE)
    assert_colour(slots, 0, 0, GREY)
    np.testing.assert_allclose(painted.decode(slots[None]).masks.sum(1), 1.0)


def test_positions_are_pixels_and_the_background_is_behind_all(slots):
    np.testing.assert_allclose(LAYOUT.positions(slots)[:3], [[3, 3], [4, 4], [4, 10]], atol=1e-5)
    assert np.isnan(LAYOUT.positions(slots)[3]).all()
    np.testing.assert_allclose(LAYOUT.depths(slots), [0.0, 1.0, 0.5, np.inf])


def test_move_shifts_by_pixels(slots):
    """Of 9 rows and 13 columns a pixel is 2 / 8 and 2 / 12 of the range [-1, 1]."""
    moved = editing.move(slots, LAYOUT, 0, rows=2, columns=-1)
    np.testing.assert_allclose(moved[0, 4:] - slots[0, 4:], [2 * 2 / 8, -2 / 12], atol=1e-6)
    assert_only_changed(slots, moved, (0, 4), (0, 5))
    assert_colour(moved, 2, 2, GREY)
    assert_colour(moved, 5, 2, RED)
    assert_colour(moved, 3, 4, GREEN)  # what it hid


def test_place_sets_a_centre_and_moves_can_be_undone(slots):
    placed = editing.place(slots, LAYOUT, 2, row=0)
    np.testing.assert_allclose(LAYOUT.positions(placed)[2], [0, 10], atol=1e-5)
    placed = editing.place(slots, LAYOUT, 2, 8, 12)
    np.testing.assert_allclose(LAYOUT.positions(placed)[2], [8, 12], atol=1e-5)

    there_and_back = editing.move(editing.move(slots, LAYOUT, 1, 4, 8), LAYOUT, 1, -4, -8)
    np.testing.assert_allclose(there_and_back, slots, atol=1e-6)


@pytest.mark.parametrize(
    "where, message",
    [
        ({"rows": 15}, "rows -9 ... 17: the image has 0 ... 8. Received: row 18."),
        ({"columns": -17}, "columns -13 ... 25: the image has 0 ... 12. Received: column -14."),
        ({"rows": np.nan}, "rows -9 ... 17: the image has 0 ... 8. Received: row nan."),
    ],
)
def test_objects_stay_within_reach(slots, where, message):
    expected = "`move` must leave the centre of the object in " + message
    with pytest.raises(UserError, match=expected.replace(".", r"\.")):
        editing.move(slots, LAYOUT, 0, **where)


def test_objects_may_leave_the_image(slots):
    outside = editing.move(slots, LAYOUT, 0, rows=-5)
    np.testing.assert_allclose(LAYOUT.positions(outside)[0], [-2, 3], atol=1e-5)
    np.testing.assert_allclose(
        painted.picture(outside), painted.picture(editing.remove(slots, LAYOUT, 0))
    )
    np.testing.assert_allclose(editing.move(outside, LAYOUT, 0, rows=5), slots, atol=1e-6)


def test_front_and_back_change_one_depth(slots):
    front = editing.to_front(slots, LAYOUT, 1)
    assert_only_changed(slots, front, (1, 3))
    assert front[1, 3] == -1.0
    assert_colour(front, 4, 4, GREEN)

    back = editing.to_back(front, LAYOUT, 1)
    assert back[1, 3] == 1.5  # behind blue at 0.5
    assert_colour(back, 4, 4, RED)

    alone = painted.scene(painted.square(RED, 3, 3, 0.25))
    np.testing.assert_array_equal(editing.to_front(alone, LAYOUT, 0), alone)


def test_reorder_exchanges_the_depths_of_the_objects(slots):
    ordered = editing.reorder(slots, LAYOUT, [1, 0, 2])
    np.testing.assert_allclose(ordered[:3, 3], [0.5, 0.0, 1.0])
    assert_colour(ordered, 4, 4, GREEN)
    pair = editing.reorder(slots, LAYOUT, [1, 2])
    np.testing.assert_allclose(pair[:3, 3], [0.0, 0.5, 1.0])


def test_equal_depths_are_pushed_apart(slots):
    """Squares at one depth would both be visible in the pixels that they share."""
    slots[:3, 3] = 0.3
    assert painted.decode(slots[None]).masks.sum(1).max() == 2.0
    ordered = editing.reorder(slots, LAYOUT, [1, 0])
    assert_colour(ordered, 4, 4, GREEN)
    np.testing.assert_allclose(painted.decode(ordered[None]).masks.sum(1), 1.0)
    assert np.diff(np.sort(ordered[:3, 3])).min() > 0.9e-3
    assert np.ptp(ordered[:3, 3]) < 0.01


def test_swap_exchanges_one_part_and_keeps_the_others(slots):
    places = editing.swap(slots, LAYOUT, 0, 2)
    assert_colour(places, 4, 10, RED)
    assert_colour(places, 3, 3, BLUE)
    np.testing.assert_array_equal(places[:, :4], slots[:, :4])
    np.testing.assert_array_equal(editing.swap(places, LAYOUT, 0, 2), slots)

    looks = editing.swap(slots, LAYOUT, 0, 2, "appearance")
    assert_colour(looks, 4, 10, RED)
    np.testing.assert_array_equal(looks[:, 3:], slots[:, 3:])

    depths = editing.swap(slots, LAYOUT, 0, 1, "depth")
    assert_only_changed(slots, depths, (0, 3), (1, 3))


def test_swap_between_scenes_changes_one_object_of_each(slots, other):
    here, there = editing.swap_between(slots, other, LAYOUT, 0, 2)
    np.testing.assert_array_equal(here[0], other[2])
    np.testing.assert_array_equal(there[2], slots[0])
    np.testing.assert_array_equal(here[1:], slots[1:])
    np.testing.assert_array_equal(there[[0, 1, 3]], other[[0, 1, 3]])

    look, _ = editing.swap_between(slots, other, LAYOUT, 0, 2, "appearance")
    np.testing.assert_array_equal(look[0], [*other[2, :3], *slots[0, 3:]])
    whole, _ = editing.swap_between(np.zeros((3, 4)), np.ones((3, 4)), LATENT, 1, 0)
    np.testing.assert_array_equal(whole, [[0] * 4, [1] * 4, [0] * 4])


def test_remove_uncovers_what_was_hidden(slots):
    removed = editing.remove(slots, LAYOUT, 0)
    np.testing.assert_array_equal(removed, slots[1:])
    assert_colour(removed, 3, 3, GREEN)
    assert_colour(removed, 2, 2, GREY)

    empty = editing.remove(slots, LAYOUT, 2, 0, 1)
    expected = np.broadcast_to(np.float32(GREY), (*painted.SIZE, 3))
    np.testing.assert_allclose(painted.picture(empty), expected)


def test_insert_comes_before_the_background(slots, other):
    inserted = editing.insert(slots, LAYOUT, other[0])
    np.testing.assert_array_equal(inserted, [*slots[:3], other[0], slots[3]])
    inserted = editing.insert(np.zeros((2, 4)), LATENT, np.ones(4))
    np.testing.assert_array_equal(inserted, [[0] * 4, [0] * 4, [1] * 4])

    background_first = dataclasses.replace(LAYOUT, background=0)
    inserted = editing.insert(slots[::-1], background_first, other[0])
    np.testing.assert_array_equal(inserted[-1], other[0])


def test_a_copy_lies_directly_before_its_original(slots):
    copied = editing.duplicate(slots, LAYOUT, 1, rows=1)
    position = editing.move(slots, LAYOUT, 1, 1)[1, 4:]
    # Blue, the next nearer object, is at depth 0.5.
    np.testing.assert_allclose(copied[3], [*slots[1, :3], 0.75, *position], atol=1e-6)
    np.testing.assert_array_equal(copied[[0, 1, 2, 4]], slots)

    nearest = editing.duplicate(slots, LAYOUT, 0)
    assert nearest[3, 3] == -1.0
    np.testing.assert_array_equal(editing.duplicate(np.eye(3, 4), LATENT, 1)[3], np.eye(3, 4)[1])


def test_latents_are_counted_within_a_part(slots):
    changed = editing.set_latent(slots, LAYOUT, 2, 1, 0.7)
    np.testing.assert_array_equal(changed[2], np.float32([0.1, 0.7, 0.8, *slots[2, 3:]]))
    assert editing.set_latent(slots, LAYOUT, 0, 0, 9.0, part="depth")[0, 3] == 9.0
    assert editing.set_latent(np.zeros((3, 6)), GENESIS, 0, 3, 9.0)[0, 3] == 9.0
    assert editing.set_latent(np.zeros((3, 6)), GENESIS, 0, 1, 9.0, part="component")[0, 3] == 9.0


def test_a_traversal_takes_every_value(slots):
    frames = editing.traverse(slots, LAYOUT, 3, 0, [0.0, 0.5, 1.0])
    red_of_background = [painted.picture(frame)[0, 0, 0] for frame in frames]
    np.testing.assert_allclose(red_of_background, [0.0, 0.5, 1.0])


def test_usual_range_is_that_of_the_kind_of_slot():
    examples = np.zeros((101, 4, 6), np.float32)
    examples[:, :3, 0] = np.arange(101)[:, None]
    examples[:, 3, 0] = np.arange(101) + 1000
    assert editing.usual_range(examples, LAYOUT, 1, 0) == (5.0, 95.0)
    assert editing.usual_range(examples, LAYOUT, 3, 0) == (1005.0, 1095.0)
    assert editing.usual_range(examples, LAYOUT, 1, 1) == (-1.645, 1.645)


def test_slots_are_paired_by_position(slots, other):
    """Centres (3, 3) and (2, 2), (4, 4) and (6, 4), (4, 10) and (5, 9); then the backgrounds."""
    np.testing.assert_array_equal(editing.pair_slots(slots, other, LAYOUT), [1, 2, 0, 3])


def test_interpolation_keeps_the_other_parts(slots, other):
    """The background stays, too (Anciukevicius 2020, figure 5)."""
    target = other[editing.pair_slots(slots, other, LAYOUT)]
    looks = editing.interpolate(slots, other, LAYOUT, "appearance", num=3)
    np.testing.assert_array_equal(looks[0], slots)
    objects = np.c_[target[:3, :3], slots[:3, 3:]]
    np.testing.assert_array_equal(looks[-1], np.concatenate([objects, slots[3:]]))
    np.testing.assert_allclose(looks[1, 0, :3], (slots[0, :3] + target[0, :3]) / 2, rtol=1e-6)

    places = editing.interpolate(slots, other, LAYOUT, "position", num=5)
    objects = np.c_[slots[:3, :4], target[:3, 4:]]
    np.testing.assert_array_equal(places[-1], np.concatenate([objects, slots[3:]]))
    np.testing.assert_allclose(LAYOUT.positions(places[2])[0], [2.5, 2.5], atol=1e-5)


def test_interpolation_of_whole_scenes_ends_at_the_paired_slots(slots, other):
    target = other[editing.pair_slots(slots, other, LAYOUT)]
    paired = editing.interpolate(slots, other, LAYOUT, num=2)
    np.testing.assert_array_equal(paired[-1], target)
    in_order = editing.interpolate(slots, other, LAYOUT, num=2, pairs=range(4))
    np.testing.assert_array_equal(in_order[-1], other)


def test_interpolation_between_objects(slots):
    frames = editing.interpolate_objects(slots, LAYOUT, 0, 2, "appearance", num=3)
    colours = [painted.picture(frame)[3, 3] for frame in frames]
    np.testing.assert_allclose(colours, [RED, (0.45, 0.1, 0.45), BLUE], atol=1e-6)
    np.testing.assert_array_equal(frames[:, 1:], np.repeat(slots[None, 1:], 3, 0))

    # Two objects with one position and one depth: the depths are pushed apart.
    together = editing.interpolate_objects(slots, LAYOUT, 0, 2, num=2)[-1]
    np.testing.assert_allclose(painted.decode(together[None]).masks.sum(1), 1.0)


def test_hidden_parts_of_objects_are_rendered(slots):
    amodal, recons = editing.complete_objects(slots, LAYOUT, painted.decode)
    np.testing.assert_array_equal(amodal, painted.place(slots[None])[0])
    assert painted.decode(slots[None]).masks[0, 1].sum() == 5
    assert amodal[1].sum() == 9
    np.testing.assert_array_equal(recons[:, 0, 0], slots[:, :3])


def test_hidden_parts_are_rendered_if_the_background_is_first(slots):
    background_first = dataclasses.replace(LAYOUT, background=0)

    def decode(latents):
        scene = painted.decode(latents[:, ::-1])
        return scene._replace(masks=scene.masks[:, ::-1], slot_recons=scene.slot_recons[:, ::-1])

    amodal, _ = editing.complete_objects(slots, LAYOUT, painted.decode)
    reverse, _ = editing.complete_objects(slots[::-1], background_first, decode)
    np.testing.assert_array_equal(reverse, amodal[::-1])


def test_a_scene_without_objects_has_its_background_only(slots):
    background = slots[3:]
    _, recons = editing.complete_objects(background, LAYOUT, painted.decode)
    expected = painted.decode(background[None]).slot_recons[0]
    np.testing.assert_array_equal(recons, expected)


def test_an_edit_of_a_batch_is_that_of_its_scenes_and_leaves_the_input(slots, other):
    batch = np.stack([slots, other])
    kept = batch.copy()
    calls = {
        "move": lambda s: editing.move(s, LAYOUT, 1, -1, 1),
        "place": lambda s: editing.place(s, LAYOUT, 0, 2, 3),
        "front": lambda s: editing.to_front(s, LAYOUT, 1),
        "back": lambda s: editing.to_back(s, LAYOUT, 0),
        "reorder": lambda s: editing.reorder(s, LAYOUT, [2, 0, 1]),
        "swap": lambda s: editing.swap(s, LAYOUT, 0, 1),
        "remove": lambda s: editing.remove(s, LAYOUT, 0, 2),
        "insert": lambda s: editing.insert(s, LAYOUT, slots[1]),
        "duplicate": lambda s: editing.duplicate(s, LAYOUT, 2, 1, 1),
        "set": lambda s: editing.set_latent(s, LAYOUT, 0, 0, 0.5),
        "equal depths": lambda s: editing.set_latent(s, LAYOUT, 0, 0, 0.7, "depth"),
    }
    for name, call in calls.items():
        expected = np.stack([call(slots), call(other)])
        np.testing.assert_allclose(call(batch), expected, atol=1e-6, err_msg=name)
        assert call(batch).dtype == np.float32
    np.testing.assert_array_equal(batch, kept)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: editing.move(np.zeros((3, 4)), LATENT, 0, 1),
            "`move` must be given a model whose slots have a part 'position'. "
            "Received: slots of latent. This model allows: set, traverse, interpolate, remove, "
            "insert, duplicate, swap between scenes.",
        ),
        (
            lambda: editing.to_front(np.zeros((3, 6)), GENESIS, 0),
            "`depth` must be given a model whose slots have a part 'depth'. "
            "Received: slots of mask, component.",
        ),
        (
            lambda: editing.swap(np.zeros((3, 4)), LATENT, 0, 1),
            "`swap` in one scene must have slots of several parts",
        ),
        (
            lambda: editing.swap(np.zeros((3, 6)), GENESIS, 0, 1, "masks"),
            "Unknown part of a slot 'masks'. Did you mean 'mask'? Valid: component, mask.",
        ),
        (
            lambda: editing.swap(np.zeros((1, 4)), VAE, 0, 0),
            "`swap` must be given a model with several slots",
        ),
        (
            lambda: editing.swap_between(np.zeros((1, 4)), np.zeros((1, 4)), VAE, 0, 0),
            "`swap` must be given a model with several slots: with one there are no "
            "objects to tell apart. This model allows: set, traverse, interpolate.",
        ),
        (
            lambda: editing.remove(np.zeros((1, 4)), VAE, 0),
            "`remove` must be given a model with several slots",
        ),
        (
            lambda: editing.duplicate(np.zeros((1, 4)), VAE, 0),
            "`duplicate` must be given a model with several slots",
        ),
        (
            lambda: editing.remove(np.zeros((2, 4)), LATENT, 0, 1),
            "`remove` must leave a slot. Received: all 2 of them.",
        ),
        (
            lambda: editing.remove(np.zeros((3, 4)), LATENT),
            "`remove` must be given different slots. Received: none.",
        ),
        (
            lambda: editing.remove(np.zeros((3, 4)), LATENT, 1, 1),
            "`remove` must be given different slots. Received: 1, 1.",
        ),
        (
            lambda: editing.remove(np.zeros((3, 4)), LATENT, 3),
            "`slot` of `remove` must be in 0 ... 2. Received: slot=3.",
        ),
        (
            lambda: editing.remove(np.zeros((3, 4)), LATENT, -1),
            "`slot` of `remove` must be in 0 ... 2. Received: slot=-1.",
        ),
        (
            lambda: editing.remove(np.zeros((4, 6)), LAYOUT, 3),
            "`remove` must be given an object. Received: the slot of the background.",
        ),
        (
            lambda: editing.move(np.zeros((4, 6)), LAYOUT, 3, 1),
            "`move` must be given an object. Received: the slot of the background.",
        ),
        (
            lambda: editing.insert(np.zeros((3, 4)), LATENT, np.zeros(5)),
            "`vector` must have the 4 numbers of a slot. Received: shape (5,).",
        ),
        (
            lambda: editing.set_latent(np.zeros((3, 4)), LATENT, 0, 4, 1.0),
            "`latent` must be in 0 ... 3. Received: latent=4.",
        ),
        (
            lambda: editing.set_latent(np.zeros((3, 4)), LATENT, 0, 0, np.inf),
            "`value` must be a finite number. Received: value=inf.",
        ),
        (
            lambda: editing.interpolate(np.zeros((3, 4)), np.zeros((2, 4)), LATENT),
            "`interpolate` must be given two scenes with equally many slots. Received: 3 and 2.",
        ),
        (
            lambda: editing.interpolate(np.zeros((3, 4)), np.zeros((3, 4)), LATENT, num=1),
            "`num` must be at least 2",
        ),
        (
            lambda: editing.traverse(np.zeros((1, 3, 4)), LATENT, 0, 0, [1.0]),
            "`traverse` must be given the slots [K, D] of one scene. Received: shape (1, 3, 4).",
        ),
        (
            lambda: editing.complete_objects(np.zeros((3, 4)), LATENT, None),
            "`complete_objects` must be given a model with a slot for the background.",
        ),
    ],
)
def test_an_edit_that_is_not_possible_is_refused_in_one_line(call, message):
    with pytest.raises(UserError) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_edits_of_whole_slots_need_no_parts():
    slots = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(editing.remove(slots, LATENT, 1), slots[[0, 2]])
    np.testing.assert_array_equal(editing.traverse(slots[:1], VAE, 0, 2, [5.0])[0, 0], [0, 1, 5, 3])
    middle = editing.interpolate(slots[:1], slots[:1] + 2, VAE, num=3)[1]
    np.testing.assert_array_equal(middle, slots[:1] + 1)

    # Pairs are found by distance, in whatever order the slots are.
    end = editing.interpolate(slots, slots[::-1] + 4, LATENT, num=2)[-1]
    np.testing.assert_array_equal(end, slots + 4)


def test_the_background_is_first_or_last():
    assert LAYOUT.background_slot(5) == 4
    assert LAYOUT.objects(3) == [0, 1]
    assert dataclasses.replace(LAYOUT, background=0).objects(3) == [1, 2]
    message = "`background` must be 0, -1 or None. Received: background=3."
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LAYOUT, background=3)


def test_layout_is_read_from_the_metadata():
    metadata = {
        "image_size": [9, 13],
        "num_slots": 4,
        "slot_size": 6,
        "slot_parts": {"appearance": [0, 3], "depth": [3, 4], "position": [4, 6]},
        "background_slot": -1,
    }
    assert layout_of_metadata(metadata) == LAYOUT


def test_an_older_export_allows_edits_of_whole_slots_only():
    slots = np.zeros((4, 6))
    old = layout_of_metadata({"image_size": [9, 13], "num_slots": 4, "slot_size": 6})
    assert not old.is_told
    assert old.parts == {"latent": (0, 6)}
    assert old.background is None
    assert editing.remove(slots, old, 0).shape == (3, 6)

    message = (
        "must know where a slot keeps its position, which older exports do not say: "
        "export the run again."
    )
    with pytest.raises(UserError, match=message):
        editing.move(slots, old, 0, 1)
    with pytest.raises(UserError, match=message):
        editing.swap(slots, old, 0, 1)


class FactoredScenes(NamedTuple):
    """The model with positions and depths, untrained, and two scenes that it has encoded."""

    layout: SlotLayout
    outputs: Any
    """`SceneOutputs` of both scenes, before any edit."""
    slots: Any
    """[2, K, D]; in the first scene, objects 0 and 1 are at one place."""
    decode: Any
    """Function from [n, K, D] to a `DecodedScene`."""


@pytest.fixture(scope="module")
def factored():
    import conformance
    import tensorflow as tf

    from tfobj import random
    from tfobj.serving.slot_layout import layout_of_model

    case = next(case for case in conformance.MODELS if case.model == "factored_scenes")
    model = conformance.build(case)
    # Even sides, so the middle of an object lies half a pixel before its position.
    assert model.config.canvas_size % 2 == 0
    outputs = model(conformance.scenes(model.config), seed=random.make_seed(0))
    layout = layout_of_model(model)
    slots = outputs.slots.numpy()
    for slot in (0, 1):
        slots[0] = editing.place(slots[0], layout, slot, row=4, column=6)
    return FactoredScenes(
        layout, outputs, slots, lambda latents: model.decode(tf.constant(latents))
    )


def test_layout_of_factored_scenes_agrees_with_its_outputs(factored):
    layout, outputs, slots, decode = factored
    positions = layout.positions(slots[1:])[:, :-1]
    np.testing.assert_allclose(positions, outputs.positions[1:, :-1] + 0.5, atol=1e-4)
    np.testing.assert_array_equal(np.argsort(layout.depths(slots)), np.argsort(outputs.depths))
    amodal, recons = editing.complete_objects(slots[1], layout, decode)
    np.testing.assert_allclose(amodal, outputs.amodal_masks[1], atol=1e-5)
    np.testing.assert_allclose(recons, outputs.slot_recons[1], atol=1e-5)


def test_factored_scenes_move_one_object_by_pixels(factored):
    layout, _, slots, decode = factored
    here, _ = editing.complete_objects(slots[0], layout, decode)
    moved = editing.move(slots[0], layout, 1, rows=1, columns=-2)
    there, _ = editing.complete_objects(moved, layout, decode)
    np.testing.assert_allclose(there[1, 1:, :-2], here[1, :-1, 2:], atol=1e-5)
    np.testing.assert_array_equal(there[[0, 2]], here[[0, 2]])


@pytest.mark.parametrize(("change", "nearest"), [(editing.to_front, 1), (editing.to_back, 0)])
def test_factored_scenes_show_the_nearest_object_whole(factored, change, nearest):
    layout, _, slots, decode = factored
    amodal, _ = editing.complete_objects(slots[0], layout, decode)
    masks = decode(change(slots[0], layout, 1)[None]).masks[0].numpy()
    behind = 1 - nearest
    np.testing.assert_allclose(masks[nearest], amodal[nearest], atol=1e-5)
    np.testing.assert_allclose(masks[behind], amodal[behind] * (1 - amodal[nearest]), atol=1e-5)


def test_factored_scenes_uncover_an_object_when_the_nearer_one_is_removed(factored):
    layout, _, slots, decode = factored
    amodal, _ = editing.complete_objects(slots[0], layout, decode)
    removed = editing.remove(slots[0], layout, 0)
    np.testing.assert_allclose(decode(removed[None]).masks[0, 0], amodal[1], atol=1e-5)
