"""Recorded runs: what presets cost and how they scored, from the files in results/.

Every `results/<model>_<protocol>_<preset>_seed<n>.json` is the evaluation.json of one run. Lists,
tables and pages read them here, so that no number is written down twice.
"""

import pathlib
import re
import statistics
from typing import NamedTuple

from tfobj import files

FOLDER = files.shipped("results")

SCORE_TITLES = {
    "aiou_micro": "amodal IoU",
    "fg_ari_frame_40": "foreground ARI of frames",
    "fg_ari": "foreground ARI",
}
"""A run is judged by the first of these scores that it has."""


class Measured(NamedTuple):
    """The recorded runs of one preset, averaged over seeds."""

    command: str
    """Trains the first of them."""
    hardware: str
    num_seeds: int
    steps: int
    minutes: float
    score_title: str
    score: float

    def __str__(self):
        """Returns a sentence: "foreground ARI 0.960 after 21 minutes on 2 cores of X (3 seeds)"."""
        seeds = "1 seed" if self.num_seeds == 1 else f"{self.num_seeds} seeds"
        score = f"{self.score_title} {self.score:.3f}"
        return f"{score} after {self.minutes:.0f} minutes on {self.hardware} ({seeds})"


def load(folder=FOLDER):
    """Returns (model, protocol, preset) -> evaluations of its recorded runs, by seed."""
    groups = {}
    for path in sorted(pathlib.Path(folder).glob("*_seed*.json")):
        row = files.read_json(path, keys={"model": str, "protocol": str, "preset": str})
        groups.setdefault((row["model"], protocol_of(row), row["preset"]), []).append(row)
    return groups


def protocol_of(row):
    """Returns the name of a run's protocol, without the numbers of scenes that it was limited to.

    An evaluation describes its protocol as "name_train_test/split: ...".
    """
    return re.sub(r"_\d+_\d+$", "", row["protocol"].partition("/")[0])


def measure(rows):
    """Returns the `Measured` of the runs of one preset, which must be complete."""
    name = next(n for n in SCORE_TITLES if n in rows[0])
    return Measured(
        command=rows[0].get("command", "unknown"),
        hardware=rows[0].get("hardware", "unknown hardware"),
        num_seeds=len(rows),
        steps=rows[0]["step"],
        minutes=statistics.mean(row["training_minutes"] for row in rows),
        score_title=SCORE_TITLES[name],
        score=statistics.mean(row[name] for row in rows),
    )


def is_complete(rows):
    """Returns whether runs say how long they took and have a score to be judged by.

    Runs on data without labels have no score, those of a JAX host no minutes.
    """
    return "training_minutes" in rows[0] and any(name in rows[0] for name in SCORE_TITLES)


def of_presets(model, folder=FOLDER):
    """Returns (preset, data set) -> `Measured` of a model's presets, as far as they were run.

    The data set is the one in the run's command: "bouncing_balls" has several protocols.
    """
    found = {}
    for (its_model, _, preset), rows in load(folder).items():
        asked = re.search(r"--dataset=(\S+)", rows[0].get("command", ""))
        if its_model == model and asked and is_complete(rows):
            found[preset, asked[1]] = measure(rows)
    return found
