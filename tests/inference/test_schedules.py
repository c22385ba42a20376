"""The number of refinement steps over training, and the weights of their losses."""

import pytest

from tfobj.errors import UserError
from tfobj.inference.graph_schedules import refinement_loss_weight
from tfobj.inference.schedules import check_schedule, stage_at


@pytest.mark.parametrize(
    "step, expected",
    [
        (0, (3, 100_000)),
        (99_999, (3, 100_000)),
        (100_000, (1, 200_000)),
        (200_000, (0, None)),
        (10**9, (0, None)),
    ],
)
def test_stage_at(step, expected):
    assert (
        stage_at(check_schedule(3, ((100_000, 1), (200_000, 0)), "model.curriculum"), step)
        == expected
    )


@pytest.mark.parametrize(
    "changes", [((0, 1),), ((10, 1), (10, 2)), ((20, 1), (10, 2)), ((10, -1),)]
)
def test_schedules_that_are_none(changes):
    with pytest.raises(UserError, match="`model.curriculum` must be pairs"):
        check_schedule(3, changes, "model.curriculum")


def test_linear_weights():
    assert [refinement_loss_weight(r, 4) for r in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
