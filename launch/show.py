r"""Draws scenes of a data set beside their truth: a contact sheet, to look at before training.

    python launch/show.py --dataset=tetris
    python launch/show.py --dataset=clevr6 --num_train=1680 --num_test=320 --split=test \
        --num_scenes=24 --out=clevr6.png
    python launch/show.py --dataset=folder:pictures

Below each image is its segmentation. Where complete objects are known, they are outlined, hidden
parts included. Of a data set that is not built yet, only the scenes drawn are generated; one that
was published is read first. --num_train and --num_test show a smaller build.
"""

import pathlib
import sys

if not __package__:  # `python launch/show.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands
from tfobj.launch import shared_flags

_DATASET = flags.DEFINE_string(
    "dataset", None, "A data set or protocol of launch/list.py, or folder:PATH.", required=True
)
_SPLIT = shared_flags.split("train", "Split of the protocol: train, validation, test, ...")
_FIRST = flags.DEFINE_integer("first", 0, "Number of the first scene in the split.", lower_bound=0)
_NUM_SCENES = flags.DEFINE_integer(
    "num_scenes",
    24,
    "Scenes to draw. Of clips, a sixth as many, with one row of frames each.",
    lower_bound=1,
    upper_bound=400,
)
_NUM_TRAIN = flags.DEFINE_integer(
    "num_train", None, "Show a build of only this many training scenes.", lower_bound=1
)
_NUM_TEST = flags.DEFINE_integer(
    "num_test", None, "Show a build of only this many test scenes.", lower_bound=1
)
_DATA_DIR = shared_flags.data_dir()
_OUT = shared_flags.out(
    default=None, text="Image to write (png, pdf, svg); default: <dataset>_<split>.png."
)

COLUMNS = 6
FRAMES = 8
"""Frames of a clip, evenly from the first to the last."""
FOLDER_SIZE = (128, 128, 3)
"""Pictures of a folder are cropped and scaled to this size."""


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj import viz
    from tfobj.data import pipeline
    from tfobj.errors import UserError, printable
    from tfobj.serving import output_files

    try:
        scenes, description, name = open_scenes()
    except UserError as e:
        # The library knows the flag as its argument.
        raise UserError(str(e).replace("`first`", "`--first`")) from e
    batch = next(pipeline.evaluation_batches(scenes, len(scenes)))
    pictures = [batch["image"], batch.get("mask")]
    columns = COLUMNS
    if scenes.num_frames is not None:
        columns = min(scenes.num_frames, FRAMES)
        pictures = [frames_of(x, columns) for x in pictures]

    figure = viz.truth_figure(
        *pictures,
        batch.get("amodal_masks"),
        columns=columns,
        title=f"{printable(name)}, scenes {_FIRST.value} and up",
    )
    path = _OUT.value or output_files.unused_path(f"{name}_{_SPLIT.value}.png")
    viz.save_figure(figure, path)
    print(f"{printable(path)}: {len(scenes)} of {description}{visible_objects(scenes)}.")
    return 0


def open_scenes():
    """Returns (`SceneArrays` of the scenes to draw, a description of all, a name for files)."""
    from tfobj.data import folder, preview, protocols
    from tfobj.errors import printable

    dataset = _DATASET.value
    if dataset.startswith(folder.PREFIX):
        path = dataset.removeprefix(folder.PREFIX)
        scenes, total = folder.open_first(path, FOLDER_SIZE, _FIRST.value, _NUM_SCENES.value)
        name = pathlib.Path(path).expanduser().resolve().name
        return scenes, f"{total} pictures of {printable(path)}", name

    name = dataset
    if dataset not in protocols.PROTOCOLS:
        name = protocols.default_protocol(dataset).name
    protocol = protocols.sized(name, _NUM_TRAIN.value, _NUM_TEST.value)
    number = _NUM_SCENES.value
    if protocol.num_frames is not None:
        number = max(1, number // 6)
    protocol.split(_SPLIT.value)
    # TFDS reads with it. A folder of pictures needs none.
    commands.load_tensorflow()
    scenes = preview.open_scenes(protocol, _SPLIT.value, _FIRST.value, number, _DATA_DIR.value)
    return scenes, protocol.describe(_SPLIT.value), name


def frames_of(clips, number):
    """Returns frames of clips [B, T, ...], evenly spread, as [B * number, ...]; None stays None."""
    import numpy as np

    if clips is None:
        return None
    shown = np.linspace(0, clips.shape[1] - 1, number).round().astype(int)
    return clips[:, shown].reshape(-1, *clips.shape[2:])


def visible_objects(scenes):
    """Returns how many objects are visible on average, as the end of a sentence."""
    import numpy as np

    if scenes.mask is None:
        return ""
    counts = [len(np.setdiff1d(mask, [0, 255])) for mask in scenes.mask]
    return f"; {np.mean(counts):.1f} objects are visible on average"


if __name__ == "__main__":
    commands.run(main)
