"""TFDS builder of CLEVRER: simulated and ray-cast from a seed, or read from the published files."""

import collections
import dataclasses
import functools

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import video_builder, workers
from tfobj.datasets.clevrer import annotations, published
from tfobj.datasets.generators import clevrer_clips
from tfobj.errors import UserError, unknown_name

_URL = "https://data.csail.mit.edu/clevrer/"
_FILES = {
    "train": ("videos/train/video_train.zip", "annotations/train/annotation_train.zip"),
    # Papers test on the published validation videos: those of the published test have no annotations.
    "test": (
        "videos/validation/video_validation.zip",
        "annotations/validation/annotation_validation.zip",
    ),
}
_PROPOSALS = "derender_proposals.zip"
_VIDEOS_AT_A_TIME = 8


@dataclasses.dataclass(eq=False)
class ClevrerConfig(video_builder.VideoConfig):
    """One way to make CLEVRER clips.

    Attributes:
      variant: name of a set in `clevrer_clips.VARIANTS`. Published clips of a trimmed set are, for the test, the first
        frames of videos of that many objects from when all are in view, and for training consecutive pieces of all
        videos.
      stride: every `stride`-th frame is kept; None is that of the variant, and 1 for whole published videos.
      segmentation: whether to read the masks of published clips from `derender_proposals.zip`; else they are 255,
        unknown.
      path: folder with the published ZIP files; else they are looked for in TFDS's manual directory and downloaded.
    """

    num_train: int = 2_000
    num_test: int = 320
    test_start: int = 10_000
    validation_start: int = 9_000
    variant: str = "clevrer"
    stride: int | None = None
    segmentation: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.variant not in clevrer_clips.VARIANTS:
            raise unknown_name("variant", self.variant, clevrer_clips.VARIANTS)
        if self.stride is not None and not 1 <= self.stride < annotations.NUM_FRAMES:
            raise UserError(
                f"`stride` must be in 1 ... {annotations.NUM_FRAMES - 1}. Received: stride={self.stride}."
            )
        if self.image_size is not None and self.image_size < clevrer_clips.MIN_SIZE:
            raise UserError(
                f"`image_size` must be at least {clevrer_clips.MIN_SIZE}. Received: image_size={self.image_size}."
            )
        rules = self.rules
        if self.frames > rules.most_frames:
            raise UserError(
                f"`num_frames` must be in 1 ... {rules.most_frames} for variant {self.variant!r} and a stride of {rules.stride}. "
                f"Received: num_frames={self.num_frames}."
            )
        splits = published.SPLITS
        if self.public and (
            self.num_train > len(splits["train"])
            or self.test_start < splits["validation"].start
            or self.test_start + self.num_test > splits["validation"].stop
        ):
            raise UserError(
                "`num_train` must be at most 10000 and test clips in 10000 ... 14999 for the published videos. Received: "
                f"num_train={self.num_train}, test_start={self.test_start}, num_test={self.num_test}."
            )
        if self.public and self.num_validation:
            raise UserError(
                f"`num_validation` is an option of generated clips. Received: num_validation={self.num_validation}."
            )

    @property
    def rules(self):
        """The `clevrer_clips.Variant`, with this config's stride."""
        rules = clevrer_clips.get_variant(self.variant)
        return dataclasses.replace(
            rules, stride=self.stride or (1 if self.public else rules.stride)
        )

    @property
    def frames(self):
        """The number of frames of a clip."""
        most = self.rules.most_frames
        return self.num_frames or (most if self.public else min(self.rules.num_frames, most))


def _generated(variant):
    rules = clevrer_clips.VARIANTS[variant]
    seen = "in view for all of 40 frames" if rules.trimmed else "that enter and leave"
    return ClevrerConfig(
        name=f"raycast_{variant}",
        variant=variant,
        description=f"Ray-cast clips of {rules.min_objects}-{rules.max_objects} objects {seen}, 64x64.",
    )


def _public(name, variant, description):
    return ClevrerConfig(
        name=name,
        variant=variant,
        public=True,
        num_train=10_000,
        num_test=5_000,
        description=description,
    )


class Builder(video_builder.VideoBuilder):
    """CLEVRER. `raycast_*` needs no network, `public*` reads the published files."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Simulated and ray-cast clips, and the published ones."}
    BUILDER_CONFIGS = [_generated("clevrer")]
    ON_REQUEST_CONFIGS = [
        *(_generated(name) for name, variant in clevrer_clips.VARIANTS.items() if variant.trimmed),
        _public(
            "public",
            "clevrer",
            "The published videos of 128 frames (24 GB download), the middle square at 64x64.",
        ),
        *(
            _public(
                f"public_{name}",
                name,
                f"Published clips of 40 frames; for the test, of {variant.min_objects}-{variant.max_objects} objects in view.",
            )
            for name, variant in clevrer_clips.VARIANTS.items()
            if variant.trimmed
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = BUILDER_CONFIGS[0].name
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Only for the configs `public*`: their ZIP files are downloaded from {_URL}, unless they are in the manual directory: "
        f"{', '.join(epath.Path(name).name for pair in _FILES.values() for name in pair)}, {_PROPOSALS}."
    )
    HOMEPAGE = "http://clevrer.csail.mit.edu/"
    PARALLEL = True
    CHUNK = 4

    # TFDS infers both from the module's name, which does not lead to the files of a source checkout.
    code_path = epath.Path(__file__)
    pkg_dir_path = code_path.parent

    @property
    def factor_docs(self):
        docs = {
            "color": (
                (),
                "1 red, 2 cyan, 3 green, 4 blue, 5 brown, 6 gray, 7 purple, 8 yellow, 0 background or absent.",
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
        if self.builder_config.public:
            turns = {
                "orientation": ((3,), "As published."),
                "angular_velocity": ((3,), "As published."),
            }
            return {
                **vectors,
                **turns,
                "in_view": (
                    (),
                    "1 if the object is in the camera's view of 480x320, as published.",
                ),
                **meetings,
            }
        return {
            **vectors,
            "angle": ((), "Azimuth in radians."),
            "in_view": ((), "1 if the centre lies in the picture, hidden or not."),
            **meetings,
        }

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
        return {
            "variant": config.variant,
            "stride": config.rules.stride,
            **({} if config.public else {"renderer": "raycast", "seed": config.seed}),
        }

    def generate(self, indices):
        return self.generator()(indices)

    def generator(self):
        config = self.builder_config
        num_frames, size, *_ = self.clip_shape()
        return functools.partial(
            clevrer_clips.clips,
            seed=config.seed,
            variant=config.rules,
            num_frames=num_frames,
            size=size,
        )

    def clip_shape(self):
        config = self.builder_config
        size = config.image_size or clevrer_clips.DEFAULT_SIZE
        entities = published.NUM_ENTITIES if config.public else config.rules.num_entities
        return config.frames, size, size, 3, entities

    def split_ranges(self):
        ranges = super().split_ranges()
        if self.builder_config.public:
            # Clips and not videos; test videos without a clip leave gaps.
            pieces = len(self._selection("train").starts)
            ranges["train"] = 0, self.builder_config.num_train * pieces
        return ranges

    def _selection(self, split):
        """Returns what is kept of the published videos of a split."""
        config = self.builder_config
        rules = config.rules
        kept = dict(num_frames=config.frames, stride=rules.stride, size=self.clip_shape()[1])
        if not rules.trimmed:
            return published.Selection(starts=(0,), **kept)
        if split == "train":
            return published.Selection(
                starts=published.windows(config.frames, rules.stride), **kept
            )
        return published.Selection(
            starts=None, objects=(rules.min_objects, rules.max_objects), **kept
        )

    def public_source(self, dl_manager):
        """Returns split -> `published.Source`."""
        config = self.builder_config
        wanted = [name for pair in _FILES.values() for name in pair] + [
            _PROPOSALS
        ] * config.segmentation
        found = {name: self._on_disk(dl_manager, name) for name in wanted}
        missing = {name: _URL + name for name, path in found.items() if path is None}
        if missing and config.path:
            raise UserError(
                f"`path` must be a folder with {', '.join(map(_basename, wanted))}. Received: path={config.path!r} "
                f"without {', '.join(map(_basename, missing))}."
            )
        try:
            found |= dl_manager.download(missing) if missing else {}
        except OSError as error:  # also the base of the errors of `requests`
            raise UserError(
                f"{', '.join(missing.values())} could not be downloaded ({error}). Put the files into the folder `downloads/manual` "
                f"of the data directory, or build the config {self.DEFAULT_BUILDER_CONFIG_NAME!r}, which needs no network."
            ) from error
        proposals = str(found[_PROPOSALS]) if config.segmentation else None
        return {
            split: published.Source(str(found[videos]), str(found[texts]), proposals)
            for split, (videos, texts) in _FILES.items()
        }

    def _on_disk(self, dl_manager, name):
        """Returns the path of a published file, in the config's folder or the manual directory, or None."""
        try:
            folder = (
                epath.Path(self.builder_config.path).expanduser()
                if self.builder_config.path
                else dl_manager.manual_dir
            )
        except AssertionError:  # TFDS's way to say that there is no manual directory
            return None
        candidate = folder / _basename(name)
        return candidate if candidate.exists() else None

    def read_public(self, source, split, start, stop):
        selection = self._selection(split)
        pieces = len(selection.starts or (0,))
        numbers = np.arange(start // pieces, stop // pieces)
        chunks = [
            numbers[i : i + _VIDEOS_AT_A_TIME] for i in range(0, len(numbers), _VIDEOS_AT_A_TIME)
        ]
        read = functools.partial(published.read, source=source[split], selection=selection)
        count, left_out = 0, []
        for chunk in workers.ordered_map(read, chunks):
            left_out += chunk.pop("left_out")
            count += len(chunk["mask"])
            if len(chunk["mask"]):
                yield chunk
        if left_out:
            print(
                f"clevrer, {split}: left out {len(left_out)} of {len(numbers)} videos: {_reasons(left_out)}."
            )
        if not count:
            raise UserError(
                f"`{source[split].videos}` must hold clips for split {split!r}. Received: none of {len(numbers)} videos fits"
                + (f"; {_reasons(left_out)}." if left_out else ".")
            )


def _basename(name):
    return name.rsplit("/", 1)[-1]


def _reasons(left_out):
    """Returns what was wrong with videos, with their numbers: "2 broken annotation (5, 7), ...", the most frequent first."""
    groups = collections.defaultdict(list)
    for number, reason in left_out:
        groups[reason].append(number)
    parts = []
    for reason, numbers in sorted(groups.items(), key=lambda item: -len(item[1]))[:5]:
        shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
        parts.append(f"{len(numbers)} {reason} ({shown})")
    return ", ".join(parts) + (f", and {len(groups) - 5} other reasons" if len(groups) > 5 else "")
