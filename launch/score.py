r"""Scores predicted segmentations of any framework against true ones.

    python launch/score.py --predictions=out --truth=labels
    python launch/score.py --predictions=masks.npz --truth=labels.npy --json=scores.json
    python launch/score.py --predictions=out --predictions_suffix=_segmentation \
        --truth=labels --ignore_id=255 --csv=scenes.csv
    python launch/score.py --predictions=masks.npy --truth=labels.npy \
        --recons=recons.npy --images=images.npy

Neither TensorFlow nor a GPU is needed. The numbers are those of launch/evaluate.py under the same
names.

--predictions and --truth are both folders, whose files are paired by their names without endings,
or both files of arrays, whose scenes are paired by place:

    folder of pictures    one scene a file, without loss (PNG, BMP, TIFF, ...). Gray and palette
                          pictures hold ids; in pictures of colours every colour is an id, black
                          is 0
    folder of folders     one clip a folder, frames in the natural order of their names
    folder of .npy, .npz  one scene a file: ids [(T,) H, W], or masks [(T,) K, H, W(, 1)]
    one .npy or .npz      all scenes: ids [N, (T,) H, W], or masks [N, (T,) K, H, W(, 1)]

Truth must be integer ids. Predictions may be integer ids, in any numbering, or masks: shares,
logits or booleans, where the largest mask owns a pixel. Nothing is resized.

What counts:

    objects       all true ids but --background_id (0; #rrggbb for a colour; `none`: all ids)
    not scored    pixels of --ignore_id, and of negative true ids
    ties          go to the first mask; pixels of boolean or integer masks that are all 0 belong to
                  no mask and form a segment of their own
    undefined     scenes where the truth leaves nothing to score, as fg_ari without objects: left
                  out of the mean, and counted
    failed        scenes with NaN or infinity in their masks or reconstruction: they count with the
                  worst value of every score that reads it (an ARI of -0.5, an IoU of 0, an infinite
                  error), so that no model gains by failing

docs/metrics.md defines every score.
"""

import pathlib
import sys

if not __package__:  # `python launch/score.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands
from tfobj.launch import shared_flags

_PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "Folder or array file of predicted ids or masks.", required=True
)
_TRUTH = flags.DEFINE_string("truth", None, "Folder or array file of true ids.", required=True)
_RECONS = flags.DEFINE_string(
    "recons", None, "Folder or array file of reconstructions, scored against --images."
)
_IMAGES = flags.DEFINE_string("images", None, "Folder or array file of the images themselves.")
_KEYS = {
    name: flags.DEFINE_string(f"{name}_key", None, f"Array in the .npz file(s) of --{name}.")
    for name in ("predictions", "truth", "recons", "images")
}
_SUFFIXES = {
    name: flags.DEFINE_string(
        f"{name}_suffix",
        "",
        f"End of the file names of --{name} that is no part of a scene's name, such as "
        "_segmentation; files without it are left aside.",
    )
    for name in ("predictions", "truth", "recons", "images")
}
_BACKGROUND_ID = flags.DEFINE_string(
    "background_id", "0", "True id of the background: a number, a colour #rrggbb, or none."
)
_IGNORE_ID = flags.DEFINE_string(
    "ignore_id", None, "True id of pixels that are not scored: a number or a colour #rrggbb."
)
_JSON = shared_flags.json_file()
_CSV = flags.DEFINE_string("csv", None, "File for the scores of every scene.")


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj.errors import UserError
    from tfobj.metrics import predictions
    from tfobj.training.workdir import write_evaluation

    if (_RECONS.value is None) != (_IMAGES.value is None):
        raise UserError("`--recons` and `--images` must be given together. Received: one of them.")
    background_id = predictions.NO_BACKGROUND
    if _BACKGROUND_ID.value != predictions.NO_BACKGROUND:
        background_id = predictions.parse_id(_BACKGROUND_ID.value, "background_id")
    ignore_id = None
    if _IGNORE_ID.value is not None:
        ignore_id = predictions.parse_id(_IGNORE_ID.value, "ignore_id")

    predicted = opened("predictions", _PREDICTIONS.value, predictions.open_masks)
    truth = opened("truth", _TRUTH.value, predictions.open_masks)
    recons = None
    images = None
    if _RECONS.value is not None:
        recons = opened("recons", _RECONS.value, predictions.open_images)
        images = opened("images", _IMAGES.value, predictions.open_images)
        predictions.matched_names(recons, images, ("recons", "images"))
        predictions.matched_names(images, truth, ("images", "truth"))

    names = predictions.matched_names(predicted, truth)
    pairs = predictions.pair(predicted, truth, background_id=background_id, ignore_id=ignore_id)
    seen = predictions.Occurrences()
    scorer = predictions.score(seen.watch(with_progress(pairs, len(names))), images, recons)
    summary = scorer.summary()
    facts = {"predictions": _PREDICTIONS.value, "truth": _TRUTH.value}
    rules = conventions(seen)

    print_table({**facts, **rules}, summary)
    if _JSON.value:
        write_evaluation(_JSON.value, summary, **facts, conventions=rules)
    if _CSV.value:
        scorer.write_csv(_CSV.value, names)
    return 0


def opened(name, path, function):
    """Opens the source of the flag `name` with its key and suffix."""
    return function(path, key=_KEYS[name].value, suffix=_SUFFIXES[name].value, flag=name)


def with_progress(pairs, count):
    """Yields pairs under a progress bar."""
    from tqdm import auto as tqdm

    return tqdm.tqdm(pairs, "Scoring", count, unit=" scenes", leave=False, disable=None)


def conventions(seen):
    """Returns what the numbers depend on, as the table and the JSON file name it.

    Args:
      seen: `predictions.Occurrences`.
    """
    objects = f"all true ids but {_BACKGROUND_ID.value}, the background"
    if _BACKGROUND_ID.value == "none":
        objects = "all true ids: there is no background"
    elif not seen.background:
        objects += " (which occurs in no scene: is --background_id right?)"

    not_scored = "negative true ids"
    if _IGNORE_ID.value is not None:
        not_scored = f"pixels of true id {_IGNORE_ID.value}, and negative true ids"
    if not seen.unscored:
        not_scored += " (there are none)"
    if _IGNORE_ID.value is None and seen.label_255:
        not_scored += "; 255 is an object: if it marks pixels without label, give --ignore_id=255"
    return {
        "objects": objects,
        "not_scored": not_scored,
        "ties": "go to the first mask",
        "failed": "scenes with NaN or infinity; counted with the worst value of every score",
    }


def print_table(facts, summary):
    """Prints the conventions, then the mean of every score and what it is."""
    from tfobj.metrics import definitions

    for name, value in facts.items():
        print(f"{name:<16}{value}")
    for name in ("num_scenes", "failed_scenes"):
        print(f"{name:<16}{summary[name]}")

    print(f"\n{'metric':<20}{'mean':>12}{'std':>12}")
    for name, value in summary.items():
        if f"{name}_std" not in summary:
            continue
        words = [definitions.define(name).title, *definitions.conditions(name, summary)]
        line = f"{name:<20}{value:>12.5g}{summary[f'{name}_std']:>12.4g}"
        print(f"{line}   {'; '.join(words)}")

    print("\nfg_ari_low ... fg_ari_high, a 95 % bootstrap interval of the mean: ", end="")
    print(f"{summary['fg_ari_low']:.4f} ... {summary['fg_ari_high']:.4f}")
    print(f"miou_micro, the mean over all objects instead of scenes: {summary['miou_micro']:.4f}")


if __name__ == "__main__":
    commands.run(main)
