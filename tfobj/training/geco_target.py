"""Proposes a target for GECO from a short run, by the likelihood that it reaches.

Emami 2021's procedure: train for 10 to 20 % of the steps, look at the negative log likelihood
(NLL), and choose the target so that it is reached at about that time and corresponds to the NLL
after the foreground was discovered. A target that is easier is met by the background alone; one
that is harder is never met, so that the multiplier grows (EfficientMORL) or falls (GENESIS) for
ever.

All NLLs here are nats per pixel and channel, as in the settings.
"""

import math
from typing import NamedTuple

from tfobj.errors import UserError
from tfobj.inference.gaussian_error import gaussian_floor, mean_squared_error_at
from tfobj.metrics.health import WARMUP_STEPS

SETTINGS = {"geco_target": False, "geco_goal": True}
"""Setting of a model's config -> whether its NLL counts 1/2 ln 2 pi.

EfficientMORL's does not, GENESIS' does.
"""

SHARE = 0.15
"""Share of the planned steps that a short run makes; between 10 and 20 %."""

PART = 0.2
"""Part of the rows over which the NLL is averaged: the last fifth, compared with the one before."""

FAST = 0.1
"""Relative fall of the excess NLL over the floor, from a fifth to the next, that counts as fast."""

FOUND_FG_ARI = 0.5
"""Foreground ARI below which objects count as not found yet."""

MINIMUM_ROWS = 5


class Proposal(NamedTuple):
    """A target and the measurements behind it."""

    setting: str
    """Its name in the model's config: a key of `SETTINGS`."""
    target: float
    """The NLL reached, rounded up."""
    reached: float
    """Mean NLL of the last rows."""
    earlier: float
    """Mean NLL of as many rows before them."""
    num_rows: int
    scale: float
    """Scale of the likelihood."""
    step: int
    """Last step of the run."""
    planned_steps: int
    fg_ari: float | None
    """Foreground ARI of the last validation; None without labels."""

    @property
    def with_constant(self):
        """Whether the NLL counts 1/2 ln 2 pi."""
        return SETTINGS[self.setting]

    @property
    def floor(self):
        """The NLL of a perfect reconstruction."""
        return gaussian_floor(self.scale, self.with_constant)

    @property
    def mean_squared_error(self):
        """The mean squared error that the target means."""
        return mean_squared_error_at(self.target, self.scale, self.with_constant)

    @property
    def is_falling(self):
        """Whether the NLL was still falling fast."""
        return self.earlier - self.reached > FAST * (self.reached - self.floor)


def setting_of(experiment):
    """Returns the name of the model's GECO setting, a key of `SETTINGS`.

    Raises:
      UserError: the model has none.
    """
    for name in SETTINGS:
        if hasattr(experiment.model, name):
            return name
    names = " or ".join(f"model.{name}" for name in SETTINGS)
    raise UserError(
        f"`model` must be one with GECO, that is, with a setting {names}. "
        f"Received: {experiment.model_name}."
    )


def short_run(experiment, steps=None):
    """Returns the `ExperimentConfig` of a run without GECO for the first part of the steps.

    The learning rate does not fall at its end, as it would not in the long run.

    Args:
      experiment: as planned.
      steps: of the short run; None is `SHARE` of those planned.
    """
    if steps is None:
        steps = max(MINIMUM_ROWS, round(SHARE * experiment.train.steps))
    return experiment.override(
        {
            f"model.{setting_of(experiment)}": None,
            "train.steps": steps,
            "train.cooldown_steps": 0,
            "train.log_every": max(1, min(experiment.train.log_every, steps // 50)),
        }
    )


def propose(experiment, rows, planned_steps):
    """Returns the `Proposal` from a run's metrics.

    Args:
      experiment: `ExperimentConfig` of the run.
      rows: of `workdir.read_metrics`.
      planned_steps: of the long run.

    Raises:
      UserError: the model has no GECO, or the run too few rows.
    """
    setting = setting_of(experiment)
    config = experiment.model
    train = [row for row in rows if row["split"] == "train" and row.get("nll") is not None]
    if len(train) < MINIMUM_ROWS:
        raise UserError(
            f"metrics.jsonl must have at least {MINIMUM_ROWS} rows of training with an `nll`: "
            f"train longer, or with a smaller train.log_every. Received: {len(train)}."
        )

    # Rows hold nats per image, settings nats per pixel and channel.
    size = math.prod(config.image_size) * config.channels
    num_rows = max(2, round(PART * len(train)))
    mean = lambda part: sum(row["nll"] for row in part) / (len(part) * size)
    reached = mean(train[-num_rows:])
    earlier = mean(train[-2 * num_rows : -num_rows])
    scores = [row.get("fg_ari") for row in rows if row["split"] == "validation"]
    excess = max(reached - gaussian_floor(config.likelihood_scale, SETTINGS[setting]), 1e-6)
    return Proposal(
        setting=setting,
        target=_round_up(reached, excess),
        reached=reached,
        earlier=earlier,
        num_rows=num_rows,
        scale=config.likelihood_scale,
        step=train[-1]["step"],
        planned_steps=planned_steps,
        fg_ari=scores[-1] if scores else None,
    )


def remarks(proposal):
    """Returns sentences about what makes a proposal doubtful; empty if nothing does."""
    found = []
    share = proposal.step / proposal.planned_steps

    if proposal.step < WARMUP_STEPS or not 0.05 <= share <= 0.3:
        found.append(
            f"The run made {proposal.step:,} of {proposal.planned_steps:,} planned steps "
            f"({100 * share:.3g} %); a target is best read after 10 to 20 % of them, and not "
            "before the slots have parted."
        )
    if proposal.is_falling:
        found.append(
            f"The NLL was still falling fast (from {proposal.earlier:.5g} to "
            f"{proposal.reached:.5g} over the last {proposal.num_rows} rows): train longer, or "
            "take the target a little lower."
        )
    if proposal.fg_ari is not None and proposal.fg_ari < FOUND_FG_ARI:
        found.append(
            "The foreground is not discovered yet (validation fg-ARI "
            f"{proposal.fg_ari:.2f}): such a target may be met by the background alone. Train "
            "longer, or try another seed."
        )
    return found


def format_report(proposal, warnings=()):
    """Returns the table, the remarks, and in the end the line to copy.

    Args:
      proposal: `Proposal`.
      warnings: sentences about the run's settings, shown before the remarks.
    """
    constant = "with" if proposal.with_constant else "without"

    slack = proposal.target - proposal.floor
    lines = [
        f"{'steps':<22}{proposal.step:>12,}  of {proposal.planned_steps:,} planned",
        f"{'NLL reached':<22}{proposal.reached:>12.5f}  nats per pixel and channel, "
        f"mean of the last {proposal.num_rows} rows, {constant} 1/2 ln 2 pi",
        f"{'floor':<22}{proposal.floor:>12.5f}  of a perfect reconstruction at likelihood_scale = "
        f"{proposal.scale:g}",
        f"{'target':<22}{proposal.target:>12.10g}  the NLL reached, rounded up",
        f"{'slack':<22}{slack:>12.5f}  of the target above the floor",
        f"{'MSE at the target':<22}{proposal.mean_squared_error:>12.3g}  2 scale^2 slack",
    ]
    if proposal.fg_ari is not None:
        lines.append(f"{'fg-ARI':<22}{proposal.fg_ari:>12.3f}  last validation")
    lines += [f"warning: {sentence}" for sentence in (*warnings, *remarks(proposal))]
    return "\n".join([*lines, "", f"--set model.{proposal.setting}={proposal.target:.10g}"])


def _round_up(value, excess):
    """Rounds up to a fiftieth of `excess`, and at least to three decimals.

    So the digits do not decide what the target means.
    """
    decimals = max(3, math.ceil(-math.log10(excess / 50)))
    return math.ceil(value * 10**decimals) / 10**decimals
