"""TFDS builder of CLEVRER: simulated and ray-cast from a seed, or read from the published files."""

import collections
import dataclasses
import functools

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import item_builder, video_builder, workers
from tfobj.datasets.clevrer import annotations, published
from tfobj.datasets.generators import clevrer_clips
from tfobj.errors import UserError

_URL = "https://data.csail.mit.edu/clevrer/"

# Papers test on the published validation videos: the published test videos have no annotations.
_FILES = {
    "train": ("videos/train/video_train.zip", "annotations/train/annotation_train.zip"),
    "test": (
        "videos/validation/video_validation.zip",
        "annotations/validation/annotation_validation.zip",
    ),
}
"""Split -> ZIP files of the videos and of their annotations, below `_URL`."""

_PROPOSALS = "derender_proposals.zip"
"""ZIP file of the proposed masks of all videos."""

_VIDEOS_AT_A_TIME = 8

_PUBLIC_OPTIONS = {"public": True, "num_train": 10_000, "num_test": 5_000}

_TRIMMED = [name for name, rules in clevrer_clips.VARIANTS.items() if rules.trimmed]


@dataclasses.dataclass(eq=False)
class ClevrerConfig(video_builder.VideoConfig):
    """One way to make CLEVRER clips.

    Attributes:
      variant: key of `clevrer_clips.VARIANTS`. Published clips of a trimmed variant are consecutive
        pieces of all videos for training. For the test, they are the first frames with all objects
        in view, of the videos with the variant's number of objects.
      stride: keep every `stride`-th frame; None selects the variant's stride, and 1 for published
        videos.
      segmentation: whether to read the masks of published clips from `derender_proposals.zip`;
        otherwise they are 255, unknown.
      path: folder with the published ZIP files; None looks for them in TFDS's manual directory and
        downloads those that are missing.
    """

    num_train: int = 2_000
    num_test: int = 320
    test_start: int = 10_000
    validation_start: int = 9_000
    variant: str = "clevrer"
    stride: int | None = None
    segmentation: bool = True

    VARIANTS = clevrer_clips.VARIANTS
    MIN_IMAGE_SIZE = clevrer_clips.MIN_SIZE
    RESIZES_PUBLIC = True

    def __post_init__(self):
        super().__post_init__()
        self.check_bounds("stride", 1, annotations.NUM_FRAMES - 1)
        rules = self.rules
        condition = f" for variant {self.variant!r} and a stride of {rules.stride}"
        self.check_bounds("num_frames", 1, rules.most_frames, condition)
        if self.public:
            self._check_public()

    def _check_public(self):
        """Checks that the splits lie within the published videos."""
        train = published.SPLITS["train"]
        test = published.SPLITS["validation"]
        test_stop = self.test_start + self.num_test
        if self.num_train > len(train) or self.test_start < test.start or test_stop > test.stop:
            raise UserError(
                f"`num_train` must be at most {len(train)} and test clips in {test.start} ... "
                f"{test.stop - 1} for the published videos. Received: num_train={self.num_train}, "
                f"test_start={self.test_start}, num_test={self.num_test}."
            )

        if self.num_validation:
            raise UserError(
                "`num_validation` is an option of generated clips. "
                f"Received: num_validation={self.num_validation}."
            )

    @property
    def rules(self):
        """The `clevrer_clips.Variant`, with this config's stride."""
        rules = clevrer_clips.get_variant(self.variant)
        if self.public:
            rules = dataclasses.replace(rules, stride=1)
        return dataclasses.replace(rules, stride=self.stride or rules.stride)

    @property
    def frames(self):
        """Number of frames in a clip."""
        if self.num_frames:
            return self.num_frames
        rules = self.rules
        if self.public:
            return rules.most_frames
        return min(rules.num_frames, rules.most_frames)


def _generated(variant):
    rules = clevrer_clips.VARIANTS[variant]
    seen = "in view for all of 40 frames" if rules.trimmed else "that enter and leave"
    number = f"{rules.min_objects}-{rules.max_objects}"
    return ClevrerConfig(
        name=f"raycast_{variant}",
        variant=variant,
        description=f"Ray-cast clips of {number} objects {seen}, 64x64.",
    )


def _public(variant):
    rules = clevrer_clips.VARIANTS[variant]
    number = f"{rules.min_objects}-{rules.max_objects}"
    return ClevrerConfig(
        name=f"public_{variant}",
        variant=variant,
        description=f"Published clips of 40 frames; for the test, of {number} objects in view.",
        **_PUBLIC_OPTIONS,
    )


def _published_files(segmentation=True):
    """Returns the published ZIP files, as paths below `_URL`."""
    names = [name for pair in _FILES.values() for name in pair]
    if segmentation:
        names.append(_PROPOSALS)
    return names


def _basename(name):
    return name.rsplit("/", 1)[-1]


class Builder(video_builder.VideoBuilder):
    """CLEVRER. `raycast_*` needs no network, `public*` reads the published files."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Simulated and ray-cast clips, and the published ones."}
    BUILDER_CONFIGS = [_generated("clevrer")]
    ON_REQUEST_CONFIGS = [
        *map(_generated, _TRIMMED),
        ClevrerConfig(
            name="public",
            description="The middle square of the published videos of 128 frames, resized to "
            "64x64 (24 GB download).",
            **_PUBLIC_OPTIONS,
        ),
        *map(_public, _TRIMMED),
    ]
    HOMEPAGE = "http://clevrer.csail.mit.edu/"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Only for the configs `public*`: their ZIP files are downloaded from {_URL}, unless the "
        f"manual directory holds them: {', '.join(map(_basename, _published_files()))}."
    )

    DEFAULT_IMAGE_SIZE = clevrer_clips.DEFAULT_SIZE
    PARALLEL = True
    CHUNK = 4

    @property
    def factor_docs(self):
        docs = {
            "color": (
                (),
                "1 red, 2 cyan, 3 green, 4 blue, 5 brown, 6 gray, 7 purple, 8 yellow, "
                "0 background or absent.",
            ),
            "shape": ((), "1 sphere, 2 cylinder, 3 cube."),
            "material": ((), "1 rubber, 2 metal."),
            "visibility": (
                (),
                "1 for every entity that exists, the background included; it may be out of view.",
            ),
        }
        if not self.builder_config.public:
            docs["rgb"] = ((3,), "Linear RGB in [0, 1].")
        return docs

    @property
    def track_docs(self):
        vectors = {
            "position": ((3,), "Centre in the world, z upwards."),
            "velocity": ((3,), "Of the centre; per second if generated."),
        }
        meetings = {
            "collision": ((), "1 if the object has met another one since the kept frame before."),
            "partner": ((), "Number of that entity, or 0."),
        }

        # Published flags are about the whole picture, generated ones about the stored square.
        if self.builder_config.public:
            own = {
                "orientation": ((3,), "As published."),
                "angular_velocity": ((3,), "As published."),
                "in_view": (
                    (),
                    "1 if the object is in the camera's view of 480x320, as published.",
                ),
            }
        else:
            own = {
                "angle": ((), "Azimuth in radians."),
                "in_view": ((), "1 if the centre lies in the picture, hidden or not."),
            }
        return {**vectors, **own, **meetings}

    @property
    def scene_docs(self):
        return {
            "first_frame": (
                (),
                "Number of the first frame among the 128 of the video or simulation.",
            )
        }

    @property
    def provenance(self):
        config = self.builder_config
        facts = {"variant": config.variant, "stride": config.rules.stride}
        if config.public:
            return facts
        return {**facts, "renderer": "raycast", "seed": config.seed}

    @property
    def num_frames(self):
        return self.builder_config.frames

    def generator(self):
        config = self.builder_config
        return functools.partial(
            clevrer_clips.clips,
            seed=config.seed,
            variant=config.rules,
            num_frames=self.num_frames,
            size=self.image_size,
        )

    def clip_shape(self):
        config = self.builder_config
        num_entities = config.rules.num_entities
        if config.public:
            num_entities = published.NUM_ENTITIES
        return self.num_frames, self.image_size, self.image_size, 3, num_entities

    def split_ranges(self):
        ranges = super().split_ranges()
        if self.builder_config.public:
            # Training videos are cut into several clips each. Of a test video there is at most one
            # clip: test videos without any leave gaps in the numbers.
            pieces = len(self._selection("train").starts)
            ranges["train"] = (0, self.builder_config.num_train * pieces)
        return ranges

    def _selection(self, split):
        """Returns the `published.Selection` that a split takes from the published videos."""
        rules = self.builder_config.rules
        options = {
            "num_frames": self.num_frames,
            "stride": rules.stride,
            "size": self.image_size,
        }
        if not rules.trimmed:
            return published.Selection(starts=(0,), **options)

        if split == "train":
            starts = published.windows(self.num_frames, rules.stride)
            return published.Selection(starts=starts, **options)
        objects = (rules.min_objects, rules.max_objects)
        return published.Selection(starts=None, objects=objects, **options)

    def public_source(self, dl_manager):
        """Returns a dict from split to `published.Source`."""
        config = self.builder_config
        wanted = _published_files(config.segmentation)
        found = {name: self.find_on_disk(dl_manager, name) for name in wanted}

        missing = {name: _URL + name for name, path in found.items() if path is None}
        if missing and config.path:
            raise UserError(
                f"`path` must be a folder with {', '.join(map(_basename, wanted))}. "
                f"Received: path={config.path!r} without {', '.join(map(_basename, missing))}."
            )
        if missing:
            found |= self.download(dl_manager, missing)

        proposals = str(found[_PROPOSALS]) if config.segmentation else None
        return {
            split: published.Source(str(found[videos]), str(found[texts]), proposals)
            for split, (videos, texts) in _FILES.items()
        }

    def find_on_disk(self, dl_manager, name):
        # This dataset has several files: the config's path is their folder.
        folder = self.builder_config.path
        if not folder:
            return super().find_on_disk(dl_manager, name)

        return item_builder.existing(epath.Path(folder).expanduser() / _basename(name))

    def read_public(self, source, split, start, stop):
        selection = self._selection(split)
        pieces = len(selection.starts or (0,))
        numbers = np.arange(start // pieces, stop // pieces)
        chunks = [
            numbers[i : i + _VIDEOS_AT_A_TIME] for i in range(0, len(numbers), _VIDEOS_AT_A_TIME)
        ]
        read = functools.partial(published.read, source=source[split], selection=selection)

        count = 0
        left_out = []
        for chunk in workers.ordered_map(read, chunks):
            left_out += chunk.pop("left_out")
            count += len(chunk["mask"])
            if len(chunk["mask"]):
                yield chunk

        reasons = _reasons(left_out)
        if left_out:
            print(
                f"clevrer, {split}: left out {len(left_out)} of {len(numbers)} videos: {reasons}."
            )

        if not count:
            received = f"none of {len(numbers)} videos fits"
            if left_out:
                received += f"; {reasons}"
            raise UserError(
                f"`{source[split].videos}` must hold clips for split {split!r}. "
                f"Received: {received}."
            )


def _reasons(left_out):
    """Lists what was wrong with videos, the most frequent reasons first.

    Args:
      left_out: list of (number of a video, reason).

    Returns:
      Text such as "2 broken annotation (5, 7), 1 video of 104 frames (3)"; at most five reasons,
      with at most five numbers each.
    """
    groups = collections.defaultdict(list)
    for number, reason in left_out:
        groups[reason].append(number)

    parts = []
    for reason, numbers in sorted(groups.items(), key=lambda item: -len(item[1]))[:5]:
        shown = [str(number) for number in numbers[:5]]
        if len(numbers) > 5:
            shown.append("...")
        parts.append(f"{len(numbers)} {reason} ({', '.join(shown)})")
    if len(groups) > 5:
        parts.append(f"and {len(groups) - 5} other reasons")
    return ", ".join(parts)
