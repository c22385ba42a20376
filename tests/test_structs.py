"""The shapes every model's output must have, and the checks of K and R."""

import pytest
import tensorflow as tf

from tfobj import structs
from tfobj.errors import UserError
from tfobj.structs import SceneOutputs


def outputs(lead=(2,), num_slots=3, **changes):
    image = (*lead, 4, 5, 3)
    fields = {
        "recon": image,
        "masks": (*lead, num_slots, 4, 5, 1),
        "slot_recons": (*lead, num_slots, 4, 5, 3),
        "slots": (*lead, num_slots, 7),
    }
    return tf.zeros(image), SceneOutputs(
        **{k: tf.zeros(changes.pop(k, v)) for k, v in fields.items()}, **changes
    )


@pytest.mark.parametrize("lead", [(2,), (2, 6)], ids=["image", "video"])
def test_right_shapes_pass(lead):
    image, good = outputs(lead, loss_terms={"mse": tf.zeros(2)})
    structs.check_outputs(good, image)


@pytest.mark.parametrize(
    ("field", "shape", "expected"),
    [
        ("recon", (2, 4, 5, 1), "(2, 4, 5, 3)"),
        ("masks", (2, 3, 4, 5), "(2, None, 4, 5, 1)"),
        ("masks", (2, 3, 5, 4, 1), "(2, None, 4, 5, 1)"),
        ("slot_recons", (3, 3, 4, 5, 3), "(2, None, 4, 5, 3)"),
    ],
)
def test_wrong_shapes_are_named(field, shape, expected):
    image, bad = outputs(**{field: shape})
    with pytest.raises(ValueError) as error:
        structs.check_outputs(bad, image)
    assert (
        str(error.value) == f"`SceneOutputs.{field}` must have shape {expected}. Received: {shape}."
    )


def test_loss_terms_are_per_scene():
    image, bad = outputs(loss_terms={"kl": tf.zeros([2, 3])})
    with pytest.raises(
        ValueError,
        match=r"`SceneOutputs.loss_terms\['kl'\]` must have shape \[B\]. Received: \(2, 3\).",
    ):
        structs.check_outputs(bad, image)


def test_unknown_sizes_pass_while_tracing():
    @tf.function(input_signature=[tf.TensorSpec([None, 4, 5, 3])])
    def fn(image):
        masks = tf.zeros([tf.shape(image)[0], 3, 4, 5, 1])
        structs.check_outputs(SceneOutputs(image, masks, masks * tf.ones([3]), masks), image)
        return masks

    fn(tf.zeros([2, 4, 5, 3]))


def test_num_slots_and_steps():
    structs.check_num_slots(2)
    structs.check_num_slots(tf.constant(1))
    with pytest.raises(UserError, match="`num_slots` must be at least 2. Received: num_slots=1."):
        structs.check_num_slots(1)
    with pytest.raises(UserError, match="`num_steps` must be at least 1. Received: num_steps=0."):
        structs.check_num_steps(0)
