"""Traversals: the latents with the largest KL, values that occur, and a single number changed."""

import types

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.viz import palette, traversal


def decode(slots):
    """Decodes slots [n, K, 4] to scenes of 6 x 6 pixels: channel c of slot k is latent c + 1."""
    n, num_slots = slots.shape[:2]
    slot_recons = np.broadcast_to(slots[:, :, None, None, 1:], (n, num_slots, 6, 6, 3))
    masks = np.full((n, num_slots, 6, 6, 1), 1 / num_slots)
    return types.SimpleNamespace(
        recon=(masks * slot_recons).sum(1), masks=masks, slot_recons=slot_recons
    )


def scenes(batch=20, num_slots=2):
    rng = np.random.default_rng(0)
    slots = rng.uniform(0.2, 0.8, (batch, num_slots, 4)).astype(np.float32)
    return {
        "image": rng.random((batch, 6, 6, 3)),
        "slots": slots,
        "kl": np.broadcast_to([[9.0, 0.0, 0.0, 0.0], [0.1, 0.0, 5.0, 2.0]], slots.shape),
    }


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_rows_are_the_most_informative_latents_and_columns_their_values():
    data = scenes()
    figure = traversal.traversal_figure(
        **data, decode=decode, scene=3, slot=1, num_dimensions=2, num_values=5, title="traversal"
    )
    cells = pictures(figure)
    here = data["slots"][3]
    assert len(cells) == 3 + 2 * 5
    np.testing.assert_allclose(cells[0], data["image"][3], rtol=1e-6)
    found = decode(here[None])
    np.testing.assert_allclose(cells[1], found.recon[0], rtol=1e-6)
    np.testing.assert_allclose(
        cells[2], palette.over_checkerboard(found.slot_recons[0, 1], found.masks[0, 1]), rtol=1e-5
    )
    for row, dimension in enumerate((2, 3)):  # KL 5 and 2 in this slot
        low, high = np.percentile(data["slots"][:, 1, dimension], [5, 95])
        for column, value in enumerate(np.linspace(low, high, 5)):
            expected = decode(here[None]).recon[0].copy()
            expected[..., dimension - 1] = (
                here[0, dimension] + value
            ) / 2  # of two slots with half a mask each, the second one changes
            np.testing.assert_allclose(cells[3 + 5 * row + column], expected, rtol=1e-5)
    labels = [text.get_text() for text in figure.texts]
    assert {"traversal", "input", "reconstruction", "slot 2", "latent 3", "latent 4"} <= set(labels)
    assert "latent 1" not in labels
    assert any(label.startswith("KL 5 nats\n") for label in labels)


def test_slots_may_hold_more_than_latents():
    data = scenes()
    figure = traversal.traversal_figure(data["image"], data["slots"], data["kl"][..., :2], decode)
    assert [t.get_text() for t in figure.texts if t.get_text().startswith("latent")] == [
        "latent 1",
        "latent 2",
    ]


def test_usual_values_leave_out_the_extremes():
    latents = np.linspace(0, 100, 101).reshape(101, 1)
    np.testing.assert_allclose(traversal.usual_values(latents, 3), [[5.0, 50.0, 95.0]])


def test_slot_to_traverse():
    """Slot 0 owns most of the foreground, but is the background that swallowed an object.

    Slot 1 fits the other object.
    """
    masks = np.zeros((3, 4, 4, 1))
    masks[0] = 0.5
    masks[1, 0, :2] = 1.0
    masks[2, 3] = 1.0
    true = np.zeros((4, 4), np.uint8)
    true[0, :3] = 1
    true[1:3, :2] = 2
    true[3] = 255
    kl = np.array([[1.0, 1.0], [9.0, 0.0], [9.0, 3.0]])
    assert traversal.slot_to_traverse(kl, masks, true) == 1
    assert traversal.slot_to_traverse(kl, masks) == 2
    assert traversal.slot_to_traverse(kl, masks, np.zeros((4, 4), np.uint8)) == 2


@pytest.mark.parametrize("shape", [(20, 2), (20, 3, 4), (20, 2, 5)])
def test_errors(shape):
    with pytest.raises(
        UserError,
        match=(
            r"`kl` must have shape \[B, K, d\], d <= D, of slots \[B, K, D\] = \(20, 2, 4\). "
            "Received: "
        ),
    ):
        traversal.traversal_figure(**{**scenes(), "kl": np.zeros(shape)}, decode=decode)
