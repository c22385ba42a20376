"""Learning curves draw every logged metric once, smooth training only, and survive gaps and NaN."""

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.viz import canvas, curves

TRAINING = [
    {"step": step, "split": "train", "loss": 1e4 * 0.9 ** (step / 10), "flag": True}
    for step in range(0, 1000, 5)
]
VALIDATION = [
    {
        "step": step,
        "split": "validation",
        "fg_ari": step / 1000,
        "fg_ari_std": 0.1,
        "fg_ari_low": step / 1100,
        "fg_ari_high": step / 900,
        "num_scenes": 320,
        "undefined_fg_ari": 2,
        "loss": loss,
    }
    for step, loss in ((900, 10.0), (0, 10.0), (500, float("nan")))
]
ROWS = TRAINING + VALIDATION


def titles(figure):
    return [axes.get_title("left") for axes in figure.axes]


def test_panels_lines_and_bands():
    figure = curves.learning_curve_figure(ROWS, title="run")
    assert titles(figure) == ["loss", "fg_ari"]
    loss, ari = figure.axes
    assert loss.get_yscale() == "log" and ari.get_yscale() == "linear"
    assert [len(line.get_xdata()) for line in loss.lines] == [
        200,
        200,
        2,
    ]  # raw, smooth, validation without NaN
    assert ari.lines[0].get_xdata().tolist() == [0, 500, 900]
    assert len(ari.collections) == 1
    assert ari.get_title("right") == "0.9"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "validation"]
    canvas.figure_to_png(figure)


def test_chosen_names_in_order():
    assert titles(curves.learning_curve_figure(ROWS, ["fg_ari", "missing", "loss"])) == [
        "fg_ari",
        "loss",
    ]
    with pytest.raises(UserError, match="`names` must name at least one logged metric of"):
        curves.learning_curve_figure(ROWS, ["missing"])
    with pytest.raises(UserError):
        curves.learning_curve_figure([])


def test_a_single_point_is_drawn():
    picture = canvas.figure_to_array(
        curves.learning_curve_figure([{"step": 0, "split": "train", "loss": 1.0}])
    )
    assert picture.min() < picture.max()


def test_running_mean_keeps_constants_and_reaches_the_ends():
    np.testing.assert_allclose(curves._running_mean(np.full(500, 3.0)), 3.0)
    ramp = np.arange(500.0)
    smooth = curves._running_mean(ramp)
    np.testing.assert_allclose(smooth[10:-10], ramp[10:-10])
    assert smooth[0] == ramp[:6].mean()
