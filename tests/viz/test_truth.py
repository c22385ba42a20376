"""Contact sheets of scenes: which pictures stand where."""

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.viz import palette
from tfobj.viz.truth import truth_figure


def scenes(count=5, size=(6, 8)):
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, (count, *size)).astype(np.uint8)
    amodal = np.stack([np.ones_like(mask), mask == 1, mask >= 1], axis=1).astype(np.uint8)
    return rng.random((count, *size, 3)).astype(np.float32), mask, amodal


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_pictures_stand_above_their_truth():
    image, mask, amodal = scenes()
    figure = truth_figure(image, mask, amodal, columns=3, title="a set")
    shown = pictures(figure)
    assert len(shown) == 10 and figure.texts[0].get_text() == "a set"
    for i in range(5):
        np.testing.assert_allclose(shown[2 * i], image[i], atol=1e-6)
        np.testing.assert_allclose(shown[2 * i + 1], palette.render_true_mask(mask[i]), atol=1e-6)
    of_scene = [axes for axes in figure.axes if axes.images][1]
    assert len(of_scene.collections) == 4  # two objects, two lines each
    tops = [round(axes.get_position().y1, 3) for axes in figure.axes]
    assert tops[0] == tops[2] == tops[4] > tops[1] > tops[6] > tops[7]


def test_without_truth():
    image, mask, _ = scenes()
    assert len(pictures(truth_figure(image))) == 5
    assert len(pictures(truth_figure(image, mask))) == 10


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            (np.zeros((0, 4, 4, 3)),),
            r"`image` must have shape \[n, H, W, C\] with n at least 1. Received: \(0, 4, 4, 3\)",
        ),
        (
            (np.zeros((2, 4, 4, 3)), np.zeros((2, 4, 5), int)),
            r"`mask` must have shape \(2, 4, 4\). Received: \(2, 4, 5\)",
        ),
    ],
)
def test_wrong_shapes(arguments, message):
    with pytest.raises(UserError, match=message):
        truth_figure(*arguments)
