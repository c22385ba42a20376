"""Text of users in figures is drawn as it is: no formulas, no escapes, no warnings."""

import numpy as np

from tfobj.viz import canvas, curves, panels, truth

TEXTS = ["costs $5 or $6", "$x_{", r"\frac{a}{ $ \$ $", "`a` %_^{}", "猫.png", "bad\udcff.png"]


def pixels(text, **options):
    """Returns the picture of a text."""
    figure = canvas.new_figure(600, 60)
    figure.text(0.02, 0.3, text, fontsize=12, **options)
    return canvas.figure_to_array(figure)


def test_formulas_are_literal():
    literal = pixels("$x_1$ and $y$", parse_math=False)
    np.testing.assert_array_equal(pixels("$x_1$ and $y$"), literal)


def test_every_place_of_a_figure_takes_every_text(tmp_path):
    image = np.zeros((1, 8, 8, 3))
    rows = [{"step": i, "split": text, text: 10.0**i} for i in (1, 2) for text in TEXTS[:3]]
    figures = [truth.truth_figure(image, title=text) for text in TEXTS]
    figures += [
        curves.learning_curve_figure(rows, title=TEXTS[1]),
        panels.decomposition_figure(
            image,
            image,
            np.full((1, 2, 8, 8, 1), 0.5),
            np.zeros((1, 2, 8, 8, 3)),
            title=TEXTS[1],
            scene_names=[TEXTS[2]],
        ),
    ]
    for number, figure in enumerate(figures):
        path = canvas.save_figure(figure, tmp_path / f"{number}.png")
        assert path.stat().st_size > 1000
    # As a user's notebook saves it.
    figure.savefig(tmp_path / "tight.png", bbox_inches="tight")


def test_log_axes_keep_their_powers():
    """Their labels are formulas of Matplotlib, not of users."""
    rows = [{"step": i, "split": "test", "loss": 10.0**i} for i in range(1, 6)]
    figure = curves.learning_curve_figure(rows)
    canvas.figure_to_array(figure)
    labels = figure.axes[0].yaxis.get_majorticklabels()
    assert any("10^{" in label.get_text() for label in labels)
    assert all(label.get_parse_math() for label in labels)
