"""Scores of predictions that lie in files, whichever framework wrote them.

    predictions = open_masks("out", suffix="_segmentation")    # a folder of label pictures
    truth = open_masks("labels.npz", key="mask")                # an array of scenes
    scorer = score(pair(predictions, truth))
    scorer.summary()["fg_ari"]

`launch/score.py` is the command. Conventions: `docs/metrics.md`. Needs NumPy and SciPy, and Pillow
for pictures.

A *source* is a folder or a file of scenes:

  folder of pictures: one scene a file. A gray or palette picture holds ids; in a picture of
    colours, every colour is an id (black is 0, #rrggbb is its number).
  folder of folders: one clip a folder, its frames in the natural order of their names.
  folder of .npy or .npz files: one scene a file, [(T,) H, W] ids or [(T,) K, H, W(, 1)] masks.
  one .npy or .npz file: all scenes, with a leading axis N.

Axes: N scenes, T frames, K masks, H W image.
"""

import contextlib
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from tfobj.errors import UserError, first_line
from tfobj.metrics.clustering import segment_ids
from tfobj.metrics.scores import SceneScorer
from tfobj.structs import IGNORE_LABEL

PICTURES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm")
ARRAYS = (".npy", ".npz")
LOSSY = (".jpg", ".jpeg", ".webp", ".jp2", ".avif", ".heic")
"""Formats that change values, so that the ids in them are lost."""

MAX_COLOURS = 1_000
"""A picture with more colours than this is no segmentation."""

NO_BACKGROUND = "none"
"""`background_id` of truth in which every id is an object."""


class Source(NamedTuple):
    """Scenes in files."""

    path: pathlib.Path
    names: list | None
    """Names of the scenes of a folder, sorted; None for one file of arrays."""
    count: int
    """N."""
    read: Any
    """Function of an index that returns one scene as an array."""

    def name(self, index):
        """Returns what messages and tables call a scene."""
        if self.names is None:
            return f"scene {index}"
        return self.names[index]


class Pair(NamedTuple):
    """A scene as both sides have it."""

    name: str
    predicted: np.ndarray
    """[(T,) H, W] integer ids, `clustering.NO_SLOT` where masks were not finite."""
    true: np.ndarray
    """[(T,) H, W] integer ids; 0 = background, -1 = not scored."""


# Reading sources.


def open_masks(path, *, key=None, suffix="", flag="path"):
    """Opens label maps or soft masks.

    Args:
      path: of a folder or file, see the module docstring.
      key: name of the array in an .npz file with several.
      suffix: end of the file names in a folder, which is no part of the scene's name; other files
        are left aside.
      flag: what error messages call the path.

    Returns:
      `Source`.

    Raises:
      UserError: if there is nothing to read.
    """
    return _open(path, key, suffix, flag, _read_label_picture)


def open_images(path, *, key=None, suffix="", flag="path"):
    """Opens images or reconstructions, in the same ways as `open_masks`; colours are colours.

    Every scene is float32 [(T,) H, W, C]; integers are divided by 255.
    """
    source = _open(path, key, suffix, flag, _read_colour_picture)
    return source._replace(read=lambda i: _unit_range(source.read(i), source.name(i), flag))


def _open(path, key, suffix, flag, read_picture):
    if not str(path):
        raise UserError(f"`--{flag}` must be a folder or a file. Received: an empty name.")
    path = pathlib.Path(path)
    if path.is_dir():
        return _open_folder(path, key, suffix, flag, read_picture)
    if not path.exists():
        raise UserError(f"`--{flag}` must be a folder or a file. Received: {path}, which is not.")
    if path.suffix.lower() not in ARRAYS:
        raise UserError(
            f"`--{flag}` must be a folder, or a file that ends in {' or '.join(ARRAYS)}. "
            f"Received: {path}. For one picture, give the folder that holds it."
        )

    array = _read_array(path, key, flag)
    if array.ndim < 3 or not len(array):
        raise UserError(
            f"`--{flag}` must hold scenes [N, ..., H, W]. Received: shape {array.shape} in {path}."
        )
    return Source(path, None, len(array), lambda i: array[i])


def _open_folder(path, key, suffix, flag, read_picture):
    entries = [e for e in sorted(path.iterdir()) if not e.name.startswith(".")]
    folders = [e for e in entries if e.is_dir()]
    files = [e for e in entries if not e.is_dir() and e.stem.endswith(suffix)]
    _refuse_lossy(files, flag)
    files = [e for e in files if e.suffix.lower() in (*PICTURES, *ARRAYS)]
    if files and folders:
        raise UserError(
            f"`--{flag}` must be a folder of scenes, or of one folder per clip. Received: {path}, "
            f"with the file {files[0].name} beside the folder {folders[0].name}."
        )
    if not files and not folders:
        ending = f"*{suffix}" if suffix else "*"
        wanted = ", ".join(ending + kind for kind in (*PICTURES, *ARRAYS))
        raise UserError(f"`--{flag}` must hold label maps ({wanted}). Received: {path}, without.")

    scenes = {}
    for entry in folders or files:
        name = entry.name if folders else entry.stem.removesuffix(suffix)
        if name in scenes:
            raise UserError(
                f"`--{flag}` must have one file for every scene. Received: {scenes[name].name} "
                f"and {entry.name} in {path}."
            )
        scenes[name] = entry

    def read(index):
        entry = scenes[names[index]]
        if entry.is_dir():
            return _read_clip(entry, suffix, flag, read_picture)
        if entry.suffix.lower() in ARRAYS:
            return _read_array(entry, key, flag)
        return read_picture(entry)

    names = sorted(scenes)
    return Source(path, names, len(names), read)


def _read_clip(folder, suffix, flag, read_picture):
    """Returns the frames of a folder, [T, ...]."""
    files = [e for e in folder.iterdir() if e.stem.endswith(suffix) and not e.name.startswith(".")]
    _refuse_lossy(files, flag)
    files = [e for e in files if e.suffix.lower() in PICTURES]
    if not files:
        raise UserError(f"`{folder}` must hold the frames of a clip as pictures. It has none.")

    frames = [read_picture(file) for file in sorted(files, key=_natural)]
    for file, frame in zip(sorted(files, key=_natural), frames, strict=True):
        if frame.shape != frames[0].shape:
            raise UserError(
                f"The frames of a clip must have one size, {frames[0].shape}. "
                f"Received: {frame.shape} in {file}."
            )
    return np.stack(frames)


def _natural(path):
    """Returns a key that sorts frame_2 before frame_10."""
    return [(len(part), part) for part in re.split(r"(\d+)", path.stem)]


def _refuse_lossy(files, flag):
    for file in files:
        if file.suffix.lower() in LOSSY:
            raise UserError(
                f"`--{flag}` must be files without loss, such as PNG: compression changes ids. "
                f"Received: {file}."
            )


def _read_array(path, key, flag):
    """Returns the array of an .npy file, or the one called `key` of an .npz file."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _plain_array(loaded, path)
        with loaded:
            names = list(loaded)
            if key is None and len(names) == 1:
                key = names[0]
            if key in names:
                return _plain_array(loaded[key], path)
    except UserError:
        raise
    except Exception as e:
        # Caught broadly: damaged archives end in errors of half a dozen kinds.
        raise UserError(f"`{path}` cannot be read as a NumPy file ({first_line(e)}).") from e

    received = "no key" if key is None else repr(key)
    raise UserError(
        f"`--{flag}_key` must name an array of {path}: {', '.join(names)}. Received: {received}."
    )


def _plain_array(array, path):
    if array.dtype.kind not in "biuf":
        raise UserError(f"`{path}` must hold numbers. Received: dtype {array.dtype}.")
    return array


def _read_label_picture(path):
    """Returns the ids of a picture: integers [H, W]."""
    with _picture(path) as picture:
        if picture.mode in ("L", "P", "1", "I", "I;16", "I;16B", "I;16L"):
            return np.asarray(picture)
        if picture.mode in ("RGB", "RGBA", "LA", "PA"):
            colours = np.asarray(picture.convert("RGBA")).astype(np.int64)
        else:
            raise UserError(
                f"`{path}` must hold integer ids or colours. Received: a picture of mode "
                f"{picture.mode}."
            )

    if (colours[..., 3] != 255).any():
        raise UserError(f"`{path}` must be opaque: colours that are partly transparent are no ids.")
    ids = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
    num_colours = len(np.unique(ids))
    if num_colours > MAX_COLOURS:
        raise UserError(
            f"`{path}` must be a segmentation with one colour per segment. Received: "
            f"{num_colours:,} colours, as of a photograph or of smoothed edges."
        )
    return ids


def _read_colour_picture(path):
    """Returns a picture as uint8 [H, W, C], C = 1 or 3."""
    with _picture(path) as picture:
        if picture.mode in ("L", "1"):
            return np.asarray(picture.convert("L"))[..., None]
        if picture.mode not in ("RGB", "RGBA", "P"):
            raise UserError(
                f"`{path}` must be a gray or RGB picture of 8 bits. Received: mode {picture.mode}."
            )
        colours = np.asarray(picture.convert("RGBA"))

    if (colours[..., 3] != 255).any():
        raise UserError(f"`{path}` must be opaque: what shows through is not known.")
    return colours[..., :3]


@contextlib.contextmanager
def _picture(path):
    """Opens a picture of a single frame with Pillow, wholly decoded."""
    # Imported here because arrays need no Pillow.
    import PIL.Image

    try:
        picture = PIL.Image.open(path)
        num_frames = getattr(picture, "n_frames", 1)
        picture.load()
    except Exception as e:
        # Caught broadly: damaged pictures end in errors of half a dozen kinds.
        raise UserError(f"`{path}` is not a picture that can be read ({first_line(e)}).") from e
    with picture:
        if num_frames > 1:
            raise UserError(
                f"`{path}` must be one picture. Received: {num_frames} frames or pages; give the "
                "frames of a clip as a folder."
            )
        yield picture


def _unit_range(array, name, flag):
    """Returns an image as float32 in [0, 1]; a reconstruction may leave the range."""
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255.0)
    if array.dtype.kind != "f":
        raise UserError(
            f"`--{flag}` must be uint8, or floats in [0, 1]. Received: {array.dtype} in {name}."
        )

    finite = array[np.isfinite(array)]
    if finite.size and finite.max() > 1.0 and (finite == np.rint(finite)).all():
        raise UserError(
            f"`--{flag}` must be floats in [0, 1]. Received: whole numbers up to "
            f"{finite.max():g} in {name}."
        )
    return array.astype(np.float32)


# Pairing and scoring.


def pair(predictions, truth, *, background_id=0, ignore_id=None):
    """Yields a `Pair` for every scene of two sources, which must have the same scenes.

    Args:
      predictions: `Source` of ids or masks. A pixel belongs to the largest mask; ties go to the
        first. Where masks are integers or booleans and all are 0, it belongs to none, and these
        pixels form a segment of their own.
      truth: `Source` of ids.
      background_id: the true id of the background, or `NO_BACKGROUND`.
      ignore_id: the true id of pixels that are not scored, or None. Negative ids are never scored.

    Raises:
      UserError: if names, sizes, types or ids do not fit. Nothing is resized.
    """
    for index, name in enumerate(matched_names(predictions, truth)):
        true = np.asarray(truth.read(index))
        if true.dtype.kind not in "biu" or true.ndim not in (2, 3):
            raise UserError(
                f"`--truth` must hold integer ids [(T,) H, W] for every scene. Received: "
                f"{true.dtype} {true.shape} for {name}."
            )
        predicted = _predicted_ids(np.asarray(predictions.read(index)), true.shape, name)
        yield Pair(name, predicted, _true_ids(true, background_id, ignore_id))


def matched_names(one, two, flags=("predictions", "truth")):
    """Returns the names of the scenes of two sources; refuses sources that differ in them."""
    if (one.names is None) != (two.names is None):
        raise UserError(
            f"`--{flags[0]}` and `--{flags[1]}` must both be folders, whose files are paired by "
            "name, or both be files of arrays, whose scenes are paired by place. "
            f"Received: {one.path} and {two.path}."
        )
    if one.names is None:
        if one.count != two.count:
            raise UserError(
                f"`--{flags[0]}` and `--{flags[1]}` must have equally many scenes. "
                f"Received: {one.count} and {two.count}."
            )
        return [one.name(i) for i in range(one.count)]

    missing = [
        f"{_some(sorted(set(b.names) - set(a.names)))} without a partner in {a.path}"
        for a, b in ((one, two), (two, one))
        if set(b.names) - set(a.names)
    ]
    if missing:
        hint = ""
        suffix = _common_suffix(one.names, two.names)
        if suffix:
            hint = f" Did you mean --{flags[0]}_suffix={suffix}?"
        raise UserError(
            f"`--{flags[0]}` and `--{flags[1]}` must have files of the same names. "
            f"Received: {'; '.join(missing)}.{hint}"
        )
    return one.names


def _common_suffix(longer, shorter):
    """Returns what follows every name of `shorter` in `longer`; "" if nothing does."""
    first = min(shorter)
    for name in longer:
        suffix = name[len(first) :]
        if name.startswith(first) and {n + suffix for n in shorter} <= set(longer):
            return suffix
    return ""


def _some(names, most=3):
    """Returns the first names, and how many more there are."""
    shown = ", ".join(names[:most])
    if len(names) > most:
        shown += f" and {len(names) - most} more"
    return shown


def _predicted_ids(array, shape, name):
    """Returns integer ids of the true `shape`, from ids or from masks with one more axis."""
    if array.shape == shape:
        if array.dtype.kind not in "biu":
            raise UserError(
                f"`--predictions` must be integer ids, or masks with one more axis. "
                f"Received: {array.dtype} {array.shape} for {name}."
            )
        if array.size and array.min() < 0:
            raise UserError(
                f"`--predictions` must hold ids of at least 0. Received: {array.min()} for {name}."
            )
        return array

    masks = array
    if masks.ndim == len(shape) + 2 and masks.shape[-1] == 1:
        masks = masks[..., 0]
    if masks.ndim != len(shape) + 1 or (*masks.shape[:-3], *masks.shape[-2:]) != shape:
        raise UserError(
            f"`--predictions` must have the size of `--truth`, {shape}, or one more axis of masks "
            f"before the last two. Received: {array.shape} for {name}; nothing is resized."
        )

    if masks.dtype.kind != "f":
        nothing = ~masks.any(axis=-3, keepdims=True)
        masks = np.concatenate([nothing, masks], axis=-3)
    return segment_ids(masks[None, ..., None])[0]


def _true_ids(true, background_id, ignore_id):
    """Returns true ids as int64 with 0 = background and -1 = not scored."""
    if true.size and true.max() > np.iinfo(np.int64).max:
        raise UserError(f"`--truth` must hold ids below 2**63. Received: {true.max()}.")
    ids = true.astype(np.int64)
    scored = true >= 0
    if ignore_id is not None:
        scored &= true != ignore_id

    if background_id == NO_BACKGROUND:
        ids = ids + 1
    elif background_id != 0:
        # Ids are names, so the background and 0 change theirs.
        ids = np.where(true == background_id, 0, np.where(true == 0, background_id, ids))
    return np.where(scored, ids, -1)


def score(pairs, images=None, recons=None):
    """Scores pairs of label maps and, if given, reconstructions.

    Args:
      pairs: iterable of `Pair`.
      images, recons: `Source` of the same scenes, given together (`open_images`).

    Returns:
      `SceneScorer`, whose numbers are those of `launch/evaluate.py` under the same names.
    """
    # Without prefixes, because clips of different lengths have different ones.
    scorer = SceneScorer(ignore_label=None, prefixes=())
    num_axes = None
    for index, (name, predicted, true) in enumerate(pairs):
        if num_axes not in (None, true.ndim):
            raise UserError(
                "Scenes must be all images [H, W] or all clips [T, H, W]. "
                f"Received: {true.shape} for {name}, unlike the scenes before."
            )
        num_axes = true.ndim
        pictures = {}
        if images is not None:
            pictures = _pictures_of_scene(images, recons, index, name)
        scorer.update(**pictures, segments=predicted[None], true_mask=true[None])
    return scorer


def _pictures_of_scene(images, recons, index, name):
    """Returns {"image", "recon"}, float32 [1, (T,) H, W, C]."""
    image = images.read(index)
    recon = recons.read(index)
    if image.shape != recon.shape:
        raise UserError(
            f"`--recons` must have the size of `--images`, {image.shape}. "
            f"Received: {recon.shape} for {name}; nothing is resized."
        )
    if not np.isfinite(image).all() or image.min() < 0.0 or image.max() > 1.0:
        raise UserError(
            f"`--images` must be finite and in [0, 1]. Received other values in {name}."
        )
    return {"image": image[None], "recon": recon[None]}


def parse_id(text, flag):
    """Returns the id that a user wrote: a whole number, or a colour #rrggbb of a picture."""
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return int(text[1:], 16)
    if re.fullmatch(r"\d{1,18}", text):
        return int(text)
    raise UserError(
        f"`--{flag}` must be a whole number or a colour such as #ff0000. Received: {text!r}."
    )


class Occurrences:
    """Which kinds of pixels the truth has, noticed while scenes pass by.

    Attributes:
      background: whether some scene shows the background.
      unscored: whether some pixel is not scored.
      label_255: whether some scene has the id 255 beside smaller ones, where it often means "not
        labelled".
    """

    def __init__(self):
        self.background = False
        self.unscored = False
        self.label_255 = False

    def watch(self, pairs):
        """Yields the pairs."""
        for scene in pairs:
            true = scene.true
            self.background |= bool((true == 0).any())
            self.unscored |= bool((true < 0).any())
            smaller = (true > 0) & (true < IGNORE_LABEL)
            self.label_255 |= bool((true == IGNORE_LABEL).any() and smaller.any())
            yield scene
