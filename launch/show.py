"""Draws scenes of a data set beside their truth: a contact sheet, to look at before anything is trained.

    python launch/show.py --dataset=tetris
    python launch/show.py --dataset=clevr6 --num_train=1680 --num_test=320 --split=test --num_scenes=24 --out=clevr6.png
    python launch/show.py --dataset=folder:pictures

Below each picture stands its segmentation; where complete objects are known, they are outlined, hidden parts included. A data set that
is not there yet is built first; --num_train and --num_test build and use a smaller one.
"""

import pathlib
import sys

if not __package__:  # `python launch/show.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands

_DATASET = flags.DEFINE_string(
    "dataset", None, "A data set or protocol of launch/list.py, or folder:PATH.", required=True
)
_SPLIT = flags.DEFINE_string(
    "split", "train", "Split of the protocol: train, validation, test, ..."
)
_FIRST = flags.DEFINE_integer("first", 0, "Number of the first scene in the split.", lower_bound=0)
_NUM_SCENES = flags.DEFINE_integer(
    "num_scenes",
    24,
    "Scenes to draw; of clips a sixth, a row of frames each.",
    lower_bound=1,
    upper_bound=400,
)
_NUM_TRAIN = flags.DEFINE_integer(
    "num_train", None, "Build and use only so many scenes for training.", lower_bound=1
)
_NUM_TEST = flags.DEFINE_integer(
    "num_test", None, "Build and use only so many scenes for testing.", lower_bound=1
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data folder.")
_OUT = flags.DEFINE_string(
    "out", None, "Picture to write (png, pdf, svg); default: <dataset>_<split>.png."
)
FRAMES = 8
"""Of a clip, evenly from the first to the last."""
_FOLDER_SIZE = (128, 128, 3)
"""Pictures of a folder are drawn cropped and scaled to this size."""


def main(argv):
    commands.refuse_arguments(argv)
    commands.load_tensorflow()
    import numpy as np

    from tfobj import viz
    from tfobj.data import pipeline

    scenes, description, name = _open()
    num_frames, columns = 1, 6
    number = _NUM_SCENES.value
    if scenes.num_frames is not None:  # a row is a clip
        columns = num_frames = min(scenes.num_frames, FRAMES)
        number = max(1, number // 6)
    chosen = scenes.slice(_FIRST.value, min(len(scenes), _FIRST.value + number))
    if not len(chosen):
        from tfobj.errors import UserError

        raise UserError(f"`--first` must be in 0 ... {len(scenes) - 1}. Received: {_FIRST.value}.")
    batch = next(pipeline.evaluation_batches(chosen, len(chosen)))
    pictures = [batch["image"], batch.get("mask")]
    if scenes.num_frames is not None:
        shown = np.linspace(0, scenes.num_frames - 1, num_frames).round().astype(int)
        pictures = [None if x is None else x[:, shown].reshape(-1, *x.shape[2:]) for x in pictures]
    figure = viz.truth_figure(
        *pictures,
        batch.get("amodal_masks"),
        columns=columns,
        title=f"{name}, scenes {_FIRST.value} and up",
    )
    path = viz.save_figure(figure, _OUT.value or f"{name}_{_SPLIT.value}.png")
    objects = (
        ""
        if chosen.mask is None
        else f"; {np.mean([len(np.setdiff1d(mask, [0, 255])) for mask in chosen.mask]):.1f} objects are visible on average"
    )
    print(f"{path}: {len(chosen)} of {description}{objects}.")
    return 0


def _open():
    """Returns (`SceneArrays`, their description, a name for files)."""
    from tfobj.data import folder, packed, protocols

    dataset = _DATASET.value
    if dataset.startswith(folder.PREFIX):
        path = dataset.removeprefix(folder.PREFIX)
        scenes = folder.open_folder(path, _FOLDER_SIZE, skip_unreadable=True)
        return scenes, f"{len(scenes)} pictures of {path}", pathlib.Path(path).name
    name = dataset if dataset in protocols.PROTOCOLS else protocols.default_protocol(dataset).name
    protocol = protocols.sized(name, _NUM_TRAIN.value, _NUM_TEST.value)
    return (
        packed.open_split(protocol, _SPLIT.value, _DATA_DIR.value),
        protocol.describe(_SPLIT.value),
        name,
    )


if __name__ == "__main__":
    commands.run(main)
