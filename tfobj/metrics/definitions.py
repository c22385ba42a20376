"""What every score is called, says and costs: one sentence each, the direction, the worst value.

    define("fg_ari").text       # "adjusted Rand index of the pixels of objects: ..."
    define("mse_10").title      # "squared error, first 10 frames"
    worst("fg_ari")             # -0.5

Tables, reports and help texts read these words here. The worst value is what a failed scene counts
as, i.e. one for which the model's outputs are not finite, so that no model improves a mean by
failing. It is infinite where the score has no bound, and NaN where nothing is known about the score
(a term of some model's loss); either makes the mean over scenes null in JSON files.

`docs/metrics.md` tells the conventions in full.
"""

import math
import re
from typing import NamedTuple

from tfobj.metrics.clustering import WORST_ARI


class Definition(NamedTuple):
    """What a score means."""

    title: str
    """Short name in words."""
    text: str
    """One sentence without a full stop."""
    better: str
    """"higher", "lower", or "" for numbers that are no scores."""
    worst: float
    """The value of a failed scene."""


def _higher(title, text, worst=0.0):
    return Definition(title, text, "higher", worst)


def _lower(title, text, worst=math.inf):
    return Definition(title, text, "lower", worst)


def _count(title, text, worst=math.nan):
    return Definition(title, text, "", worst)


DEFINITIONS = {
    "fg_ari": _higher(
        "foreground ARI",
        "adjusted Rand index of the pixels of objects: 1 if every object has a segment of its own, "
        "about 0 for chance; blind to how the background is divided",
        WORST_ARI,
    ),
    "ari": _higher(
        "ARI",
        "adjusted Rand index of all pixels, the background included: 1 if both segmentations are "
        "equal up to the numbering, about 0 for chance",
        WORST_ARI,
    ),
    "msc": _higher(
        "mean segmentation covering",
        "IoU of each object with the segment that fits it best, mean over objects; several objects "
        "may choose the same segment (also called mBO)",
    ),
    "msc_all": _higher(
        "mean segmentation covering with background",
        "like msc, but the background counts as one more object",
    ),
    "sc": _higher(
        "segmentation covering", "like msc, but objects count in proportion to their pixels"
    ),
    "miou": _higher(
        "mean IoU",
        "IoU of each object with its segment under the best one-to-one matching, mean over objects",
    ),
    "object_miou": _higher(
        "mean IoU by depth",
        "like miou, of the map in which the nearest slot with alpha above 0.3 owns a pixel",
    ),
    "aiou": _higher(
        "amodal IoU",
        "IoU of the full extents of objects and slots, hidden parts included, matched one to one",
    ),
    "dpa": _higher(
        "depth pair accuracy",
        "share of pairs of objects in the right order, among pairs whose full extents share enough "
        "pixels",
    ),
    "position_error": _lower(
        "position error",
        "distance in pixels of a matched slot's position from the centre of its object's box",
    ),
    "mse": _lower(
        "squared error", "mean squared error of the reconstruction, with values in [0, 1]"
    ),
    "mse_foreground": _lower(
        "squared error of objects", "mean squared error on the pixels of objects"
    ),
    "psnr": _higher(
        "peak signal-to-noise ratio", "the squared error in decibels, at most 100", -math.inf
    ),
    "squared_error": _lower("squared error of the loss", "the squared error as the loss sums it"),
    "elbo": _higher("evidence lower bound", "-(nll + kl), in nats per scene", -math.inf),
    "nll": _lower("negative log-likelihood", "of the image given the latents, in nats per scene"),
    "kl": _lower("KL divergence", "of the posterior from the prior, in nats per scene"),
    "mota": _higher(
        "tracking accuracy",
        "MOTA: 1 - (misses + false positives + identity switches) / appearances of objects",
        -math.inf,
    ),
    "motp": _higher("tracking precision", "MOTP: mean IoU of paired objects and slots"),
    "idf1": _higher(
        "identity F1", "F1 of the pairs under the best assignment of objects to slots over a clip"
    ),
    "mostly_tracked": _higher(
        "mostly tracked", "share of the objects that are paired in at least 80 % of their frames"
    ),
    "mostly_lost": _lower(
        "mostly lost", "share of the objects that are paired in less than 20 % of their frames", 1.0
    ),
    "id_switches": _lower("identity switches", "times that an object changes its slot"),
    "false_positives": _lower("false positives", "slots in frames that are paired with no object"),
    "misses": _lower("misses", "objects in frames that are paired with no slot"),
    "num_objects": _count("objects", "number of objects that have pixels"),
    "num_scenes": _count("scenes", "number of scenes (images or clips) that were scored"),
    "failed_scenes": _lower(
        "failed scenes",
        "scenes for which an output of the model is NaN or infinite; they count with the worst "
        "value of every score that reads it",
    ),
    "num_tracks": _count("tracks", "number of objects in a clip"),
    "num_appearances": _count("appearances", "number of objects, counted in every frame"),
    "num_hypotheses": _count("hypotheses", "number of slots, counted in every frame"),
    "num_pairs": _count("pairs", "number of paired objects and slots, counted in every frame"),
    "num_identified": _count("identified", "number of pairs that keep their identity"),
}

_VARIANTS = (
    (
        re.compile(r"(?P<base>.+)_ahead_(?P<n>\d+)"),
        "{title}, {n} frames ahead",
        "{text}; predicted frame {n} after the last observed one",
    ),
    (
        re.compile(r"(?P<base>dpa)_(?P<n>\d+)"),
        "{title}, overlap {n}",
        "share of pairs of objects in the right order, among pairs whose full extents share at "
        "least {n} pixels",
    ),
    (
        re.compile(r"(?P<base>.+)_(?P<n>\d+)"),
        "{title}, first {n} frames",
        "{text}; over the first {n} frames",
    ),
    (
        re.compile(r"(?P<base>.+)_frame"),
        "{title} of frames",
        "{text}; every frame by itself, mean over frames, blind to identity switches",
    ),
    (
        re.compile(r"(?P<base>.+)_micro"),
        "{title}, over all",
        "{text}; mean over all objects, pairs or clips together instead of over scenes",
    ),
    (
        re.compile(r"(?P<base>.+)_hidden_pairs"),
        "pairs with a hidden object",
        "pairs behind {base} in which one object shows no pixel; they count as wrong",
    ),
    (re.compile(r"(?P<base>.+)_pairs"), "pairs", "number of pairs of objects behind {base}"),
    (re.compile(r"(?P<base>.+)_objects"), "objects", "number of objects behind {base}"),
    (
        re.compile(r"(?P<base>.+)_visible"),
        "{title}, visible pairs",
        "{text}; without pairs in which one object shows no pixel",
    ),
)
"""Patterns of names, and how they change the words of `base`; the first that matches decides."""


def define(name):
    """Returns the `Definition` of a score; None for names that this package does not know."""
    if name in DEFINITIONS:
        return DEFINITIONS[name]
    for pattern, title, text in _VARIANTS:
        match = pattern.fullmatch(name)
        base = match and define(match["base"])
        if base:
            words = {**base._asdict(), **match.groupdict()}
            return base._replace(title=title.format(**words), text=text.format(**words))
    return None


def worst(name):
    """Returns what a failed scene counts as; NaN for names that this package does not know."""
    definition = define(name)
    if definition is None:
        return math.nan
    return definition.worst


def conditions(name, summary):
    """Says over which scenes the mean of a score is, where these are not simply all.

        conditions("fg_ari", summary)   # ["over 11 of 12 scenes (1 undefined: nothing to score)"]

    Args:
      name: of the score.
      summary: from `SceneScorer.summary`.

    Returns:
      list of phrases, empty if the mean is over all scenes and none failed.
    """
    phrases = []
    undefined = summary.get(f"undefined_{name}", 0)
    if undefined:
        num_scenes = summary["num_scenes"]
        phrases.append(
            f"over {num_scenes - undefined} of {num_scenes} scenes "
            f"({undefined} undefined: nothing to score)"
        )
    failed = summary.get(f"failed_{name}", 0)
    if failed:
        phrases.append(f"{failed} failed, counted as {worst(name):g}")
    return phrases
