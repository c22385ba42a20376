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


def repeated(**extra):
    """Validation rows in which several metrics have the same numbers, or a multiple."""
    rows = []
    for step, value in ((0, 0.2), (10, 0.5), (20, 0.4)):
        same = {"msc": value, "sc": value, "miou": value, "miou_micro": value}
        rows.append({"step": step, "split": "validation", **same, "mse": 1 - value, **extra})
        rows.append(
            {"step": step, "split": "train", "steps_per_second": value, "images": 8 * value}
        )
    return rows


def test_metrics_with_the_same_numbers_share_a_panel():
    figure = curves.learning_curve_figure(repeated())
    words = [" ".join(title.split()) for title in titles(figure)]
    assert words == ["msc = sc = miou = miou_micro", "mse", "steps_per_second; x 8: images"]
    chosen = curves.learning_curve_figure(repeated(), ["sc", "miou"])
    assert titles(chosen) == ["sc", "miou"]


def test_failures_are_drawn_only_if_there_are_any():
    for failed, drawn in ((0, False), (2, True)):
        figure = curves.learning_curve_figure(repeated(failed_scenes=failed, failed_msc=failed))
        assert ("failed_scenes" in titles(figure)) == drawn
        assert "failed_msc" not in titles(figure)


def test_texts_do_not_overlap():
    """Titles, last values, labels and ticks of all panels, as they are drawn."""
    name = "health/attention_entropy_fraction"
    rows = repeated(**{name: -0.0123456789, "loss": 12345.678, "a" * 19: 3e-5})
    rows[0] |= {name: 0.01, "loss": 1.0, "a" * 19: 1e-5}
    figure = curves.learning_curve_figure(rows, title="run")
    figure.canvas.draw()
    texts = []
    for axes in figure.axes:
        places = [axes.title, axes._left_title, axes._right_title, axes.xaxis.label]
        texts += [*places, *axes.get_yticklabels(), axes.yaxis.get_offset_text()]
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    assert len(boxes) > 40
    page = figure.bbox
    for i, box in enumerate(boxes):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and box.y1 <= page.y1, texts[i]
        for other in boxes[:i]:
            assert not box.overlaps(other) or min(box.width, other.width) < 1


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
