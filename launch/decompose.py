"""Takes pictures apart, or follows the objects of videos, with an exported model.

    python launch/decompose.py --saved_model=saved_models/iodine_tetris photo.png other.jpg --out=out
    python launch/decompose.py --saved_model=iodine_tetris pictures/ clip.mp4 --num_slots=7 --num_steps=8
    python launch/decompose.py --saved_model=iodine_tetris --dataset=tetris --num_scenes=100
    python launch/decompose.py --saved_model=video_decomposition_balls clip.mp4
    python launch/decompose.py --saved_model=video_decomposition_balls --dataset=balls4_color --num_scenes=3

Arguments are pictures, folders of pictures, animations and videos (frame by frame; mp4 and the like take
`pip install tfobj[video]`). For each picture or frame, --out gets

    <name>_decomposition.png    input, reconstruction, segmentation and every slot
    <name>_segmentation.png     the slot of every pixel, in its colour
    <name>_masks.npz            masks [K, H, W, 1], slot_recons [K, H, W, C], segmentation [H, W], slots [K, D]

A model of clips follows the objects of an animation, or of a video, whose frames are brought to a constant rate; for each, --out gets

    <name>_tracked.gif          input, reconstruction, segmentation and every slot, moving; of long clips some of the frames, small
    <name>_filmstrip.png        the same for some of the frames
    <name>_tracks.csv           for every frame and slot its pixels, its middle and its box
    <name>_tracks.npz           segmentation [T, H, W], slots [T, K, D]

With --dataset the model sees freshly generated scenes instead (a model of clips: balls4_color, clevrer345, ...), from far
beyond those of training and test, and the agreement with the truth is printed. --saved_model is a folder, or a name that
`launch/list.py` shows.
"""

import functools
import pathlib
import sys

if not __package__:  # `python launch/decompose.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands

_SAVED_MODEL = flags.DEFINE_string(
    "saved_model", None, "Folder of an exported model, or the name of a shipped one.", required=True
)
_OUT = flags.DEFINE_string("out", "out", "Folder for the results; made if need be.")
_NUM_SLOTS = flags.DEFINE_integer("num_slots", None, "Slots; default: the model's.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", None, "Inference steps; default: the model's.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise.")
_FIT = flags.DEFINE_string(
    "fit",
    "crop",
    "How a picture of another shape is fitted: crop (centre), pad (black borders), stretch.",
)
_MAX_SIDE = flags.DEFINE_integer(
    "max_side",
    512,
    "Larger pictures are scaled down to this side.",
    lower_bound=1,
    upper_bound=2048,
)
_MAX_FRAMES = flags.DEFINE_integer(
    "max_frames", None, "Frames taken of every clip; default: all.", lower_bound=1
)
_DATASET = flags.DEFINE_string(
    "dataset", None, "Decompose fresh scenes of a generated dataset instead of files."
)
_NUM_SCENES = flags.DEFINE_integer(
    "num_scenes", 100, "Scenes or clips of --dataset.", lower_bound=1
)

FIRST_FRESH_SCENE = 10**6
"""Training and test sets are the scenes of a generator below 100,000."""
BATCH = 20
"""Scenes of --dataset per call."""
DRAWN = 8
"""Scenes of --dataset in the figure."""
DRAWN_CLIPS, FRESH_FRAMES = 3, 40
"""Clips of --dataset that are drawn, and the frames of each."""
FILM_FRAMES, FILM_SIDE = 120, 160
"""Frames of a clip in its film, at most, and their longer side: a film of all frames at full size would not fit into memory."""


def main(argv):
    from tfobj.errors import UserError
    from tfobj.serving import pictures

    pictures.check_fit(_FIT.value)
    if (len(argv) > 1) == bool(_DATASET.value):
        raise UserError(
            "Give pictures to decompose, e.g. photo.png, or --dataset for generated scenes"
            + ("; not both." if _DATASET.value else ".")
        )
    if _DATASET.value:
        _generator()  # a wrong name is told before TensorFlow is loaded
    files = None if _DATASET.value else _find_files(argv[1:])
    commands.load_tensorflow()
    from tfobj.serving import zoo

    decomposer = zoo.load(_SAVED_MODEL.value)
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    if decomposer.is_video:
        if _NUM_STEPS.value is not None:
            raise UserError(
                f"`--num_steps` must go with a model of pictures. Received: {_SAVED_MODEL.value}, which takes clips; its export settled the steps."
            )
        if _DATASET.value:
            track_scenes(decomposer, out)
        else:
            track_files(decomposer, files, out)
        return 0
    decompose = functools.partial(
        decomposer.decompose,
        num_slots=_NUM_SLOTS.value,
        num_steps=_NUM_STEPS.value,
        seed=_SEED.value,
    )
    if _DATASET.value:
        decompose_scenes(decompose, decomposer, out)
    else:
        decompose_files(decompose, decomposer, files, out)
    return 0


def decompose_files(decompose, decomposer, files, out):
    """Decomposes pictures and clips; what is no picture is named at the end, the others are done."""
    import time

    from tqdm import auto as tqdm

    from tfobj.serving import pictures

    failures, names, count, start = [], set(), 0, time.monotonic()
    with tqdm.tqdm(files, "Decomposing", unit=" files", disable=None) as bar:
        for file in bar:
            stem = _unused(file.stem, names)
            try:
                for frame, image in pictures.read(
                    file,
                    decomposer.image_size,
                    decomposer.channels,
                    _FIT.value,
                    _MAX_SIDE.value,
                    _MAX_FRAMES.value,
                ):
                    result = decompose(image)
                    name = stem if frame is None else f"{stem}_{frame:04d}"
                    write_results(
                        image,
                        result,
                        out,
                        name,
                        f"{file.name}" if frame is None else f"{file.name}, frame {frame}",
                    )
                    count += 1
            except pictures.Unreadable as e:
                failures.append(e)
    if count:
        rate = count / (time.monotonic() - start)
        print(
            f"Decomposed {count} {'picture' if count == 1 else 'pictures'} into {result.masks.shape[1]} slots each "
            f"({rate:.1f} per second, figures included); results in {out}."
        )
    _complain(failures, len(files))


def track_files(decomposer, files, out):
    """Follows the objects of clips; what is no clip is named at the end, the others are done."""
    from tfobj.serving import pictures

    failures, names = [], set()
    for file in files:
        try:
            count, num_slots = track_file(decomposer, file, out, _unused(file.stem, names))
            print(
                f"Followed {num_slots} slots through {count} frames of {file.name}; results in {out}."
            )
        except pictures.Unreadable as e:
            failures.append(e)
    _complain(failures, len(files))


def track_file(decomposer, file, out, name):
    """Follows the objects of one clip and writes what was found; returns (frames, slots)."""
    import numpy as np
    from tqdm import auto as tqdm

    from tfobj.serving import pictures

    read = pictures.read(
        file,
        decomposer.image_size,
        decomposer.channels,
        _FIT.value,
        _MAX_SIDE.value,
        _MAX_FRAMES.value,
        even=True,
    )
    film, segmentation, slots, image = _Film(), [], [], None

    def frames():
        nonlocal image
        for number, picture in tqdm.tqdm(
            read, f"Following {file.name}", unit=" frames", disable=None
        ):
            if number is None:
                raise pictures.Unreadable(
                    f"`{file}` is a still picture, and this model follows objects through clips."
                )
            if image is not None and picture.shape != image.shape:
                raise pictures.Unreadable(
                    f"`{file}` must hold frames of one size. Received: another one at frame {number + 1}."
                )
            image = picture
            yield picture

    for result in decomposer.track(frames(), _NUM_SLOTS.value, _SEED.value):
        film.add(image, result)
        segmentation.append(result.segmentation[0].astype(np.uint8))
        slots.append(result.slots[0])
    if not slots:
        raise pictures.Unreadable(f"`{file}` must hold at least one frame. Received: 0 frames.")
    write_tracked(film, np.stack(segmentation), np.stack(slots), out, name, file.name)
    return len(slots), len(slots[0])


class _Film:
    """What the pictures of a clip show: some frames over all of its length, however long it is, and small."""

    def __init__(self):
        self.every, self.count, self.frames = 1, 0, []

    def add(self, image, result):
        """Takes a frame, uint8 [H, W, C], and its `zoo.Decomposition`, or leaves it out."""
        if self.count % self.every == 0:
            step = -(-max(image.shape[:2]) // FILM_SIDE)
            decomposed = (
                array[0][..., ::step, ::step, :]
                for array in (result.recon, result.masks, result.slot_recons)
            )
            self.frames.append((image[::step, ::step] / 255.0, *decomposed))
        if len(self.frames) > FILM_FRAMES:
            self.every, self.frames = 2 * self.every, self.frames[::2]
        self.count += 1

    def arrays(self):
        """Returns image, recon, masks, slot_recons of all frames kept, each float32 [T, ...]."""
        import numpy as np

        return [np.stack(arrays).astype(np.float32) for arrays in zip(*self.frames, strict=True)]


def _complain(failures, num_files):
    """Raises the first of the errors of files that could not be read, if there are any, and says how many more."""
    from tfobj.serving import pictures

    if failures:
        more = (
            f" Neither can {len(failures) - 1} more of the {num_files} files."
            if len(failures) > 1
            else ""
        )
        raise pictures.Unreadable(f"{failures[0]}{more}")


def write_tracked(film, segmentation, slots, out, name, title):
    """Writes the four files of one clip: a `_Film`, segment ids [T, H, W], latents [T, K, D]."""
    import numpy as np

    from tfobj import files, viz
    from tfobj.serving.tracks import track_table, write_tracks
    from tfobj.viz.video import animation_frames, filmstrip_figure, save_animation

    write_tracks(out / f"{name}_tracks.csv", track_table(segmentation, slots.shape[1]))
    with files.whole(out / f"{name}_tracks.npz") as partial:
        np.savez_compressed(partial, segmentation=segmentation, slots=slots)
    arrays, title = (
        film.arrays(),
        title if film.every == 1 else f"{title}, every {film.every}th frame",
    )
    viz.save_figure(filmstrip_figure(*arrays, title=title), out / f"{name}_filmstrip.png")
    save_animation(animation_frames(*arrays, title=title), out / f"{name}_tracked.gif")


def track_scenes(decomposer, out):
    """Follows the objects of generated clips and scores them against the truth; the first ones are drawn."""
    import numpy as np
    from tqdm import auto as tqdm

    from tfobj.datasets.generators import balls
    from tfobj.errors import UserError
    from tfobj.metrics.scores import SceneScorer

    generator, (height, width) = _generator(is_video=True), decomposer.image_size
    if height != width or height < balls.MIN_SIZE:  # all generators have this one
        raise UserError(
            f"`--dataset` must go with a model of square frames of {balls.MIN_SIZE} pixels or more. Received: one of {height} x {width}."
        )
    scorer = SceneScorer()
    for number in tqdm.trange(_NUM_SCENES.value, desc="Following", unit=" clips", disable=None):
        clip = generator([FIRST_FRESH_SCENE + number], size=height)
        video = clip["video"][0]
        _check_channels(video.shape, decomposer)
        results = list(decomposer.track(video, _NUM_SLOTS.value, _SEED.value))
        recon, masks, segmentation, slots = (
            np.concatenate([getattr(result, name) for result in results])
            for name in ("recon", "masks", "segmentation", "slots")
        )
        scorer.update(
            image=video[None] / np.float32(255.0),
            recon=recon[None],
            masks=masks[None],
            true_mask=clip["mask"],
        )
        if number < DRAWN_CLIPS:
            film = _Film()
            for frame, result in zip(video, results, strict=True):
                film.add(frame, result)
            write_tracked(
                film,
                segmentation,
                slots,
                out,
                f"{_DATASET.value}_{number}",
                f"{_DATASET.value}, fresh clip {number}",
            )
    summary = scorer.summary()
    print(
        f"{summary['num_scenes']} fresh clips of {_DATASET.value}, {FRESH_FRAMES} frames each (numbers {FIRST_FRESH_SCENE:,} and up, in no training or "
        f"test set): fg-ARI of frames {summary['fg_ari_frame']:.3f}, of whole clips {summary['fg_ari']:.3f} +- {summary['fg_ari_std']:.3f}, "
        f"MSE {summary['mse']:.5f}; {out} shows the first {min(DRAWN_CLIPS, summary['num_scenes'])}."
    )


def _check_channels(shape, decomposer):
    """Raises a `UserError` unless generated pictures or frames [..., C] have the model's channels."""
    from tfobj.errors import UserError

    if shape[-1] != decomposer.channels:
        raise UserError(
            f"`--dataset` must have {decomposer.channels} channels for this model. Received: {_DATASET.value} of shape {shape}."
        )


def decompose_scenes(decompose, decomposer, out):
    """Decomposes generated scenes and scores them against the truth."""
    import numpy as np
    from tqdm import auto as tqdm

    from tfobj import viz
    from tfobj.metrics.scores import SceneScorer

    scenes = _generator(is_video=False)(
        range(FIRST_FRESH_SCENE, FIRST_FRESH_SCENE + _NUM_SCENES.value)
    )
    _check_channels(scenes["image"].shape[1:], decomposer)
    scorer = SceneScorer()
    for start in tqdm.trange(
        0, len(scenes["image"]), BATCH, desc="Decomposing", unit=" batches", disable=None
    ):
        image, mask = (scenes[name][start : start + BATCH] for name in ("image", "mask"))
        result = decompose(image)
        scorer.update(
            image=image / np.float32(255.0), recon=result.recon, masks=result.masks, true_mask=mask
        )
        if start == 0:
            first, first_image, first_mask = result, image / np.float32(255.0), mask
    table, summary = scorer.table(), scorer.summary()
    figure = viz.decomposition_figure(
        first_image[:DRAWN],
        first.recon[:DRAWN],
        first.masks[:DRAWN],
        first.slot_recons[:DRAWN],
        first_mask[:DRAWN],
        scores={"FG-ARI": table["fg_ari"][:DRAWN]},
        title=f"{decomposer.metadata['name']} on fresh scenes of {_DATASET.value}",
    )
    path = viz.save_figure(figure, out / f"{_DATASET.value}_decomposition.png")
    print(
        f"{summary['num_scenes']} fresh scenes of {_DATASET.value} (numbers {FIRST_FRESH_SCENE:,} and up, in no training or test set): "
        f"fg-ARI {summary['fg_ari']:.3f} +- {summary['fg_ari_std']:.3f} over scenes, MSE {summary['mse']:.5f}; {path} shows "
        f"the first {len(first_image[:DRAWN])}."
    )


def write_results(image, result, out, name, title):
    """Writes the three files of one picture; each appears whole or not at all.

    Args:
      image: uint8 [H, W, C].
      result: `zoo.Decomposition` of it alone.
      out: folder.
      name: beginning of the file names.
      title: of the figure.
    """
    import numpy as np
    from PIL import Image

    from tfobj import files, viz

    figure = viz.decomposition_figure(
        image[None] / np.float32(255.0),
        result.recon,
        result.masks,
        result.slot_recons,
        title=title,
        scene_names=[""],
    )
    viz.save_figure(figure, out / f"{name}_decomposition.png")
    colours = np.rint(
        255.0
        * viz.render_segmentation(result.segmentation[0], viz.slot_colours(result.masks.shape[1]))
    )
    with files.whole(out / f"{name}_segmentation.png") as partial:
        Image.fromarray(colours.astype(np.uint8)).save(partial)
    arrays = {
        "masks": result.masks,
        "slot_recons": result.slot_recons,
        "segmentation": result.segmentation,
        "slots": result.slots,
    }
    with files.whole(out / f"{name}_masks.npz") as partial:
        np.savez_compressed(partial, **{key: value[0] for key, value in arrays.items()})


def _find_files(arguments):
    """Returns the files that the arguments name, folders searched."""
    from tfobj.data import folder
    from tfobj.errors import UserError

    for argument in arguments:
        if not pathlib.Path(argument).expanduser().exists():
            raise UserError(
                f"Pictures must be files or folders. Received: {argument}, which does not exist."
            )
    return [file for argument in arguments for file in folder.list_files(argument)]


def _generator(is_video=None):
    """Returns the generator of --dataset.

    Args:
      is_video: whether it must be of clips; None takes either.

    Returns:
      Function of scene numbers -> dict with `image` uint8 [n, H, W, C], `mask` [n, H, W]; of clips a function of numbers and `size`
      -> `video` uint8 [n, T, H, W, C], `mask` [n, T, H, W].
    """
    from tfobj.datasets.generators import balls, clevrer_clips, polygons, sprites, tetris
    from tfobj.errors import unknown_name

    pictures = {
        "tetris": tetris.scenes,
        "multi_dsprites": sprites.scenes,
        "overlapping_polygons": polygons.scenes,
    }
    pictures |= {
        f"multi_dsprites_{name}": functools.partial(sprites.scenes, variant=name)
        for name in sprites.VARIANTS
        if name != "colored_on_grayscale"
    }
    clips = {
        name: functools.partial(module.clips, variant=name, num_frames=FRESH_FRAMES)
        for module in (balls, clevrer_clips)
        for name in module.VARIANTS
    }
    kind, valid = {
        None: ("", pictures | clips),
        True: (" of clips", clips),
        False: (" of pictures", pictures),
    }[is_video]
    if _DATASET.value not in valid:
        raise unknown_name(f"generated dataset{kind}", _DATASET.value, valid)
    return valid[_DATASET.value]


def _unused(stem, names):
    """Returns `stem`, with a number if a file of another folder has taken it."""
    name, number = stem, 1
    while name in names:
        number += 1
        name = f"{stem}_{number}"
    names.add(name)
    return name


if __name__ == "__main__":
    commands.run(main)
