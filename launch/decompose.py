"""Decomposes pictures, or follows the objects of videos, with an exported model.

    python launch/decompose.py --saved_model=saved_models/iodine_tetris photo.png --out=out
    python launch/decompose.py --saved_model=iodine_tetris pictures/ clip.mp4 --num_slots=7
    python launch/decompose.py --saved_model=iodine_tetris --dataset=tetris --num_scenes=100
    python launch/decompose.py --saved_model=video_decomposition_balls clip.mp4
    python launch/decompose.py --saved_model=video_decomposition_balls --dataset=balls4_color

Arguments are pictures, folders of pictures, animations and videos, which are processed frame by
frame. (Video files need `pip install tfobj[video]`.) For each picture or frame, --out gets

    <name>_decomposition.png    input, reconstruction, segmentation and every slot
    <name>_segmentation.png     the slot of every pixel, in its colour
    <name>_masks.npz            masks [K, H, W, 1], slot_recons [K, H, W, C],
                                segmentation [H, W], slots [K, D]

A video model follows the objects of an animation or video, whose frames are first brought to a
constant rate. For each clip, --out gets

    <name>_tracked.gif          input, reconstruction, segmentation and every slot, moving;
                                of long clips some of the frames
    <name>_filmstrip.png        the same for a few frames
    <name>_tracks.csv           pixels, centre and bounding box of every slot in every frame
    <name>_tracks.npz           segmentation [T, H, W], slots [T, K, D]

Files that are no pictures, or damaged, are named at the end, and the exit status is then 2; all
others are done. Results of earlier runs among the arguments are left out, and replaced; other files
in --out stay, and results of the same name get a number.

With --dataset the model decomposes freshly generated scenes, far beyond those of training and test,
and the command prints how well they agree with the truth (video models: balls4_color, clevrer345,
...). --saved_model is a folder, or a name that `launch/list.py` shows.
"""

import pathlib
import sys
import time
from typing import Any, NamedTuple

if not __package__:  # `python launch/decompose.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands
from tfobj.launch import shared_flags

_SAVED_MODEL = shared_flags.saved_model(required=True)
_OUT = shared_flags.out()
_NUM_SLOTS = shared_flags.num_slots()
_NUM_STEPS = shared_flags.num_steps()
_SEED = shared_flags.seed(text="Seed of the noise.")
_FIT = shared_flags.fit()
_MAX_SIDE = flags.DEFINE_integer(
    "max_side", 512, "Scale larger pictures down to this side.", lower_bound=1, upper_bound=2048
)
_MAX_FRAMES = flags.DEFINE_integer(
    "max_frames", None, "Frames to take of every clip; default: all.", lower_bound=1
)
_USE_DAMAGED = flags.DEFINE_bool(
    "use_damaged", False, "Use what lies before the damage of a damaged picture or clip."
)
_DATASET = shared_flags.dataset(
    default=None, text="Decompose fresh scenes of this generated data set instead of files."
)
_NUM_SCENES = flags.DEFINE_integer(
    "num_scenes", 100, "Scenes or clips of --dataset.", lower_bound=1
)

BATCH = 20
"""Scenes or pictures per call, at most."""
MOST_PIXELS = 2**22
"""Pixels of all slots together per call, so that the results of a batch take some 100 MB."""
DRAWN_SCENES = 8
"""Scenes of --dataset in the figure."""
DRAWN_CLIPS = 3
"""Clips of --dataset that are drawn."""


def main(argv):
    from tfobj.errors import UserError
    from tfobj.serving import fresh_scenes, pictures

    # Everything that can be refused without TensorFlow, which takes seconds to load.
    pictures.check_fit(_FIT.value)
    if len(argv) > 1 and _DATASET.value:
        raise UserError(
            "Give pictures to decompose, e.g. photo.png, or --dataset for generated scenes; "
            "not both."
        )
    if len(argv) == 1 and not _DATASET.value:
        raise UserError(
            "Give pictures to decompose, e.g. photo.png, or --dataset for generated scenes."
        )
    files = []
    failures = []
    if _DATASET.value:
        fresh_scenes.generator(_DATASET.value)
    else:
        files = find_files(argv[1:], failures)

    from tfobj.serving import loading

    commands.load_tensorflow(loading.check(_SAVED_MODEL.value))
    decomposer = loading.load(_SAVED_MODEL.value)
    if decomposer.is_video and _NUM_STEPS.value is not None:
        raise UserError(
            "`--num_steps` must go with a model of images. "
            f"Received: {_SAVED_MODEL.value}, a video model, whose export fixed the steps."
        )
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)

    if decomposer.is_video and files:
        track_files(decomposer, files, out, failures)
    elif decomposer.is_video:
        track_scenes(decomposer, out)
    elif files:
        decompose_files(decomposer, files, out, failures)
    else:
        decompose_scenes(decomposer, out)
    return 0


def find_files(arguments, failures):
    """Returns the files that the arguments name, those in folders included.

    Results of earlier runs are left out, unless nothing but results was named: `*.png` names them
    as well. Folders that cannot be listed are added to `failures`.
    """
    from tfobj.data import file_tree, own_files
    from tfobj.errors import UserError, printable

    files = []
    named = []
    for argument in arguments:
        path = pathlib.Path(argument).expanduser()
        if not argument or not path.exists():
            raise UserError(
                "Pictures must be files or folders. "
                f"Received: {printable(argument) or repr(argument)}, which does not exist."
            )
        files += file_tree.list_files(path, failures)
        if path.is_file():
            named.append(path)

    pictures = own_files.leave_out(files) or named
    if pictures:
        own_files.note_left_out(len(files) - len(pictures))
        return pictures
    if failures:
        raise failures[0]
    raise UserError(
        "Folders must hold at least one picture. Received: only results of earlier runs."
    )


def read_frames(decomposer, file, even=False):
    """Yields (frame number or None, image) of a file, in the shape that the model takes.

    Damage of a file that is used nevertheless is printed.
    """
    from tfobj.serving import pictures

    damages = []
    yield from pictures.read(
        file,
        decomposer.image_size,
        decomposer.channels,
        _FIT.value,
        _MAX_SIDE.value,
        _MAX_FRAMES.value,
        even=even,
        use_damaged=_USE_DAMAGED.value,
        damages=damages,
    )
    for damage in damages:
        print(f"note: {damage}", file=sys.stderr)


def decompose(decomposer, images):
    """Returns the `zoo.Decomposition` of images with the options of the command line."""
    return decomposer.decompose(
        images, num_slots=_NUM_SLOTS.value, num_steps=_NUM_STEPS.value, seed=_SEED.value
    )


class Picture(NamedTuple):
    """A picture, or a frame of a clip."""

    number: int
    """Of its file among all files."""
    file: pathlib.Path
    frame: int | None
    image: Any
    """uint8 [H, W, C]."""

    def stem(self):
        """Returns the beginning of the names of its results."""
        return self.file.stem if self.frame is None else f"{self.file.stem}_{self.frame:04d}"

    def title(self):
        """Returns what its figure is called."""
        from tfobj.errors import printable

        name = printable(self.file.name)
        return name if self.frame is None else f"{name}, frame {self.frame}"


def read_pictures(decomposer, files, unreadable):
    """Yields every `Picture` of files; what cannot be read is added to `unreadable`."""
    from tfobj.serving import pictures

    for number, file in enumerate(files):
        try:
            for frame, image in read_frames(decomposer, file):
                yield Picture(number, file, frame, image)
        except pictures.Unreadable as e:
            unreadable.append(e)


def batches(items, num_slots):
    """Yields lists of consecutive `Picture`s of one size, as many as one call takes."""
    batch = []
    for picture in items:
        height, width = picture.image.shape[:2]
        size = max(1, min(BATCH, MOST_PIXELS // (num_slots * height * width)))
        if batch and (len(batch) >= size or picture.image.shape != batch[0].image.shape):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def decompose_files(decomposer, files, out, failures):
    """Decomposes pictures and frames; files that cannot be read are named at the end.

    One thread reads pictures, one draws figures and one writes arrays, while the model works:
    of a picture of 256 x 256 pixels, the model takes a twentieth of the time, the figure a half.
    """
    import numpy as np
    from tqdm import auto as tqdm

    from tfobj import threads
    from tfobj.serving import output_files
    from tfobj.viz import result_files

    names = output_files.OutputNames(out, result_files.PICTURE_ENDINGS)
    num_slots = _NUM_SLOTS.value or decomposer.num_slots
    unreadable = []
    count = 0
    start = time.monotonic()
    progress = tqdm.tqdm(total=len(files), desc="Decomposing", unit=" files", disable=None)

    def draw(picture, result, name):
        result_files.draw_decomposition(picture.image, result, out, name, picture.title())
        progress.update(picture.number - progress.n)

    pictures = read_pictures(decomposer, files, unreadable)
    with (
        progress,
        threads.read_ahead(pictures, 2 * BATCH) as ahead,
        threads.WriteBehind(2 * BATCH) as drawer,
        threads.WriteBehind(2 * BATCH) as writer,
    ):
        for batch in batches(ahead, num_slots):
            results = decompose(decomposer, np.stack([picture.image for picture in batch]))
            for i, picture in enumerate(batch):
                result = results.scene(i)
                name = names.unused(picture.stem())
                drawer.do(draw, picture, result, name)
                writer.do(result_files.write_decomposition, result, out, name)
            count += len(batch)
        drawer.do(lambda: progress.update(len(files) - progress.n))

    if count:
        rate = count / (time.monotonic() - start)
        num_slots = results.masks.shape[1]
        what = f"1 picture into {num_slots} slots"
        if count > 1:
            what = f"{count} pictures into {num_slots} slots each"
        print(
            f"Decomposed {what} ({rate:.1f} per second, figures included); "
            f"the results are in {out}."
        )
    complain([*failures, *unreadable], len(unreadable), len(files))


def track_files(decomposer, files, out, failures):
    """Follows the objects of clips; files that cannot be read are named at the end."""
    from tqdm import auto as tqdm

    from tfobj import threads
    from tfobj.errors import printable
    from tfobj.serving import output_files, pictures, tracking
    from tfobj.viz import result_files

    names = output_files.OutputNames(out, result_files.CLIP_ENDINGS)
    num_unreadable = 0
    for file in files:
        shown = printable(file.name)
        read = read_frames(decomposer, file, even=True)
        try:
            with threads.read_ahead(read, BATCH) as ahead:
                numbered = tqdm.tqdm(ahead, f"Following {shown}", unit=" frames", disable=None)
                frames = tracking.checked_frames(file, numbered)
                clip = tracking.track_clip(decomposer, frames, _NUM_SLOTS.value, _SEED.value)
            if clip is None:
                raise pictures.Unreadable(
                    f"`{printable(file)}` must hold at least one frame. Received: 0 frames."
                )
        except pictures.Unreadable as e:
            failures.append(e)
            num_unreadable += 1
            continue
        result_files.write_tracked_clip(clip, out, names.unused(file.stem), shown)
        num_frames, num_slots = clip.slots.shape[:2]
        print(
            f"Followed {num_slots} slots through {num_frames} frames of {shown}; "
            f"the results are in {out}."
        )
    complain(failures, num_unreadable, len(files))


def complain(failures, num_unreadable, num_files):
    """Names all files and folders that could not be read; the first one is the error raised.

    Args:
      failures: list of `UserError`.
      num_unreadable: how many of them are files.
      num_files: of the command.
    """
    from tfobj.errors import UserError

    if not failures:
        return
    for failure in failures[1:]:
        print(f"also: {failure}", file=sys.stderr)
    message = str(failures[0])
    if num_unreadable and num_files > 1:
        message += f" {num_unreadable} of {num_files} files could not be read."
    raise UserError(message) from failures[0]


def decompose_scenes(decomposer, out):
    """Decomposes generated scenes and scores them against the truth."""
    import numpy as np
    from tqdm import auto as tqdm

    from tfobj import viz
    from tfobj.metrics.scores import SceneScorer
    from tfobj.serving import fresh_scenes, output_files

    first = fresh_scenes.FIRST_SCENE
    generator = fresh_scenes.generator(_DATASET.value, is_video=False)
    scenes = generator(range(first, first + _NUM_SCENES.value))
    check_channels(scenes["image"].shape[1:], decomposer)

    scorer = SceneScorer()
    drawn = None
    starts = range(0, len(scenes["image"]), BATCH)
    for start in tqdm.tqdm(starts, "Decomposing", unit=" batches", disable=None):
        image = scenes["image"][start : start + BATCH]
        mask = scenes["mask"][start : start + BATCH]
        result = decompose(decomposer, image)
        image = image / np.float32(255.0)
        scorer.update(image=image, recon=result.recon, masks=result.masks, true_mask=mask)
        if drawn is None:
            arrays = (image, result.recon, result.masks, result.slot_recons, mask)
            drawn = [array[:DRAWN_SCENES] for array in arrays]

    figure = viz.decomposition_figure(
        *drawn,
        scores={"FG-ARI": scorer.table()["fg_ari"][:DRAWN_SCENES]},
        title=f"{decomposer.metadata['name']} on fresh scenes of {_DATASET.value}",
    )
    path = output_files.unused_path(out / f"{_DATASET.value}_decomposition.png")
    viz.save_figure(figure, path)

    summary = scorer.summary()
    num_scenes = summary["num_scenes"]
    print(
        f"{num_scenes} fresh {'scene' if num_scenes == 1 else 'scenes'} of {_DATASET.value} "
        f"(numbers {first:,} and up, in no training or test set): "
        f"fg-ARI {summary['fg_ari']:.3f} +- {summary['fg_ari_std']:.3f} over scenes, "
        f"MSE {summary['mse']:.5f}; {path} shows the first {len(drawn[0])}."
    )


def track_scenes(decomposer, out):
    """Follows the objects of generated clips, scores them, and draws the first ones."""
    import numpy as np
    from tqdm import auto as tqdm

    from tfobj.errors import UserError
    from tfobj.metrics.scores import SceneScorer
    from tfobj.serving import fresh_scenes, output_files, tracking
    from tfobj.viz import result_files

    generator = fresh_scenes.generator(_DATASET.value, is_video=True)
    height, width = decomposer.image_size
    smallest = fresh_scenes.smallest_frame()
    if height != width or height < smallest:
        raise UserError(
            f"`--dataset` must go with a model of square frames of {smallest} pixels or more. "
            f"Received: one of {height} x {width}."
        )

    scorer = SceneScorer()
    names = output_files.OutputNames(out, result_files.CLIP_ENDINGS)
    first = fresh_scenes.FIRST_SCENE
    for number in tqdm.trange(_NUM_SCENES.value, desc="Following", unit=" clips", disable=None):
        truth = generator([first + number], size=height)
        video = truth["video"][0]
        check_channels(video.shape, decomposer)
        results = list(decomposer.track(video, _NUM_SLOTS.value, _SEED.value))
        scorer.update(
            image=video[None] / np.float32(255.0),
            recon=np.concatenate([result.recon for result in results])[None],
            masks=np.concatenate([result.masks for result in results])[None],
            true_mask=truth["mask"],
        )
        if number < DRAWN_CLIPS:
            name = names.unused(f"{_DATASET.value}_{number}")
            title = f"{_DATASET.value}, fresh clip {number}"
            clip = tracking.collect(zip(video, results, strict=True))
            result_files.write_tracked_clip(clip, out, name, title)

    summary = scorer.summary()
    num_clips = summary["num_scenes"]
    print(
        f"{num_clips} fresh {'clip' if num_clips == 1 else 'clips'} of {_DATASET.value} with "
        f"{fresh_scenes.NUM_FRAMES} frames each (numbers {first:,} and up, in no training or test "
        f"set): fg-ARI of frames {summary['fg_ari_frame']:.3f}, of whole clips "
        f"{summary['fg_ari']:.3f} +- {summary['fg_ari_std']:.3f}, MSE {summary['mse']:.5f}; "
        f"{out} shows the first {min(DRAWN_CLIPS, num_clips)}."
    )


def check_channels(shape, decomposer):
    """Raises a `UserError` unless generated images or frames [..., C] have the model's channels."""
    from tfobj.errors import UserError

    if shape[-1] != decomposer.channels:
        raise UserError(
            f"`--dataset` must have {decomposer.channels} channels for this model. "
            f"Received: {_DATASET.value} of shape {shape}."
        )


if __name__ == "__main__":
    commands.run(main)
