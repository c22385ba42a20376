"""A target for GECO: the NLL at the end of a short run, its meaning, and doubts about it."""

import math

import pytest

from tfobj.errors import UserError
from tfobj.training import geco_target
from tfobj.training.experiment import resolve

HALF_LOG_2_PI = 0.9189385


def experiment(model="efficient_morl", **overrides):
    return resolve(
        model, "tetris", "quick", overrides={k.replace("__", "."): v for k, v in overrides.items()}
    )


def rows(values, every=100, fg_ari=0.9):
    """Metrics of a run whose NLL per pixel and channel (35 x 35 x 3) was `values`."""
    train = [
        {"step": every * (i + 1), "split": "train", "nll": value * 35 * 35 * 3}
        for i, value in enumerate(values)
    ]
    return [*train, {"step": every * len(values), "split": "validation", "fg_ari": fg_ari}]


def test_numbers_of_efficient_morl_come_out():
    """Scale 0.3 without the constant: floor ln 0.3 = -1.20397.

    An NLL of -1.1 means a squared error of 2 * 0.09 * 0.10397.
    """
    values = [0.0] * 24 + [-1.098, -1.102] * 3
    found = geco_target.propose(
        experiment(model__likelihood_scale=0.3), rows(values), planned_steps=20_000
    )
    assert (found.setting, found.step, found.planned_steps, found.num_rows, found.fg_ari) == (
        "geco_target",
        3_000,
        20_000,
        6,
        0.9,
    )
    assert found.reached == pytest.approx(-1.1)
    assert found.floor == pytest.approx(math.log(0.3))
    assert found.earlier == pytest.approx(0.0)
    assert (
        found.reached <= found.target <= found.reached + (found.reached - found.floor) / 50 + 1e-9
    )
    assert found.mean_squared_error == pytest.approx(2 * 0.09 * (found.target - math.log(0.3)))


def test_numbers_of_genesis_come_out():
    """Scale 0.7 with the constant: floor 0.56226.

    The published goal 0.5655 means a squared error of 3.2e-3.
    """
    found = geco_target.propose(
        experiment("genesis", model__likelihood_scale=0.7), rows([0.5655] * 10), planned_steps=1_000
    )
    assert found.setting == "geco_goal"
    assert found.floor == pytest.approx(HALF_LOG_2_PI + math.log(0.7), abs=1e-6)
    assert found.target == pytest.approx(0.5655, abs=0.0033 / 50)
    assert found.target >= 0.5655 - 1e-9
    assert found.mean_squared_error == pytest.approx(3.2e-3, rel=0.04)


@pytest.mark.parametrize(
    "values, falling",
    [
        ([-1.0] * 20, False),
        ([0.0] * 15 + [-1.1] * 5, True),
        ([-0.5 - 0.02 * i for i in range(20)], True),
        ([-1.10] * 15 + [-1.105] * 5, False),
        ([-1.1] * 15 + [-1.0] * 5, False),
    ],
)
def test_a_fast_fall_is_noticed(values, falling):
    found = geco_target.propose(
        experiment(model__likelihood_scale=0.3), rows(values), planned_steps=13_000
    )
    assert found.is_falling is falling
    assert (
        any("still falling fast" in sentence for sentence in geco_target.remarks(found)) is falling
    )


@pytest.mark.parametrize(
    "planned_steps, fg_ari, every, sentences",
    [
        (20_000, 0.9, 150, []),
        (20_000, None, 150, []),
        (20_000, 0.2, 150, ["The foreground is not discovered yet (validation fg-ARI 0.20)"]),
        (200_000, 0.9, 150, ["The run made 3,000 of 200,000 planned steps (1.5 %)"]),
        (3_000, 0.9, 150, ["The run made 3,000 of 3,000 planned steps (100 %)"]),
        (1_000, 0.9, 10, ["The run made 200 of 1,000 planned steps (20 %)"]),
    ],
)
def test_doubts_about_a_target_are_told(planned_steps, fg_ari, every, sentences):
    found = geco_target.propose(experiment(), rows([-1.0] * 20, every, fg_ari), planned_steps)
    remarks = geco_target.remarks(found)
    assert len(remarks) == len(sentences)
    assert all(map(str.startswith, remarks, sentences))


def test_report_ends_with_the_line_to_copy():
    found = geco_target.propose(
        experiment(model__likelihood_scale=0.3), rows([-1.1] * 20), planned_steps=13_000
    )
    lines = geco_target.format_report(found, ["something else."]).splitlines()
    assert lines[-1] == "--set model.geco_target=-1.1"
    assert "warning: something else." in lines
    assert any(line.startswith("MSE at the target") and " 0.0187 " in line for line in lines)
    assert (
        experiment(model__geco_target=lines[-1].partition("=")[2]).model.geco_target == found.target
    )


def test_a_target_far_above_nothing_is_rounded_to_three_decimals_and_a_close_one_to_more():
    for reached, expected in ((-1.20396, -1.20396), (-0.70249, -0.702), (5.00001, 5.001)):
        found = geco_target.propose(
            experiment(model__likelihood_scale=0.3), rows([reached] * 10), planned_steps=1_000
        )
        assert found.target == pytest.approx(expected, abs=2e-6)


def test_a_short_run_is_the_first_part_without_geco():
    planned = experiment(model__geco_target=-1.1, train__steps=20_000, train__log_every=500)
    short = geco_target.short_run(planned)
    assert short.model.geco_target is None
    assert (short.train.steps, short.train.cooldown_steps, short.train.log_every) == (3_000, 0, 60)
    assert geco_target.short_run(planned, 20).train.log_every == 1
    assert short.model.replace(geco_target=-1.1) == planned.model


@pytest.mark.parametrize(
    "model, found_rows, message",
    [
        (
            "slot_attention",
            rows([0.1] * 9),
            "`model` must be one with GECO, .* model.geco_target or model.geco_goal. "
            "Received: slot_attention",
        ),
        (
            "efficient_morl",
            rows([0.1] * 4),
            "metrics.jsonl must have at least 5 rows of training .* Received: 4.",
        ),
        ("efficient_morl", [], "Received: 0."),
    ],
)
def test_models_without_geco_and_short_metrics_are_refused(model, found_rows, message):
    with pytest.raises(UserError, match=message):
        geco_target.propose(experiment(model), found_rows, planned_steps=100)
