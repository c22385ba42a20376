"""TFDS builder of bouncing balls, simulated from a seed or read from the published files."""

import dataclasses
import functools

import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import item_builder, video_builder
from tfobj.datasets.bouncing_balls import published_file
from tfobj.datasets.generators import balls
from tfobj.errors import UserError, unknown_name

_FILES = {4: "balls4mass64.h5", 8: "balls678mass64.h5", 3: "balls3curtain64.h5"}
"""Greatest number of balls -> published file."""


@dataclasses.dataclass(eq=False)
class BallsConfig(video_builder.VideoConfig):
    """One way to make clips of bouncing balls. Defaults give the papers' numbers of clips for training and test.

    Attributes:
      variant: name of a set in `balls.VARIANTS`.
    """

    variant: str = balls.DEFAULT_VARIANT

    def __post_init__(self):
        super().__post_init__()
        if self.variant not in balls.VARIANTS:
            raise unknown_name("variant", self.variant, balls.VARIANTS)
        if self.image_size is not None and self.public:
            raise UserError(
                "`image_size` is an option of generated data; the published files have one size. Received: "
                f"image_size={self.image_size}."
            )
        if self.image_size is not None and self.image_size < balls.MIN_SIZE:
            raise UserError(
                f"`image_size` must be at least {balls.MIN_SIZE}. Received: image_size={self.image_size}."
            )


def _config(variant, public=False):
    facts = balls.VARIANTS[variant]
    number = (
        f"{facts.min_balls}-{facts.max_balls}"
        if facts.min_balls < facts.max_balls
        else facts.max_balls
    )
    colors = f"{facts.num_colors} colours" if facts.num_colors else "white"
    curtain = ", partly behind a curtain" if facts.curtain else ""
    return BallsConfig(
        name=f"published_{variant}" if public else variant,
        variant=variant,
        public=public,
        description=f"{number} balls, {colors}{curtain}, {'read from the published file' if public else 'simulated'}.",
    )


class Builder(video_builder.VideoBuilder):
    """Bouncing balls. `balls*` needs no network, `published_balls*` reads the published files, which the user downloads."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Simulated clips, and the published ones."}
    BUILDER_CONFIGS = [_config(balls.DEFAULT_VARIANT)]
    ON_REQUEST_CONFIGS = [
        *(_config(variant) for variant in balls.VARIANTS if variant != balls.DEFAULT_VARIANT),
        *(_config(variant, public=True) for variant in balls.VARIANTS),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = balls.DEFAULT_VARIANT
    HOMEPAGE = "https://github.com/sjoerdvansteenkiste/Relational-NEM"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Only for the configs `published_*`: download {', '.join(_FILES.values())}, or the one of them that the config "
        f"reads, from {published_file.LINK} into the manual directory."
    )

    # TFDS infers both from the module's name, which does not lead to the files of a source checkout.
    code_path = epath.Path(__file__)
    pkg_dir_path = code_path.parent

    @property
    def variant(self):
        """The `balls.Variant` of this config."""
        return balls.get_variant(self.builder_config.variant)

    @property
    def factor_docs(self):
        docs = {
            "color": ((3,), "RGB in [0, 1]."),
            "visibility": (
                (),
                "1 for every entity that exists, the background included; a ball may be behind the curtain.",
            ),
        }
        if not self.builder_config.public:
            docs["radius"] = (
                (),
                f"In units of the box, whose side of {self.variant.box:g} fills the image.",
            )
            docs["mass"] = ((), "1 light, 6 heavy.")
        return docs

    @property
    def track_docs(self):
        if self.builder_config.public:
            return {}
        return {
            "position": (
                (2,),
                f"Column and row of the centre in units of the box, whose side of {self.variant.box:g} fills the image.",
            ),
            "velocity": ((2,), "Column and row, units of the box per frame."),
            "collision": ((), "1 if the ball met another in the step that led to the frame."),
        }

    @property
    def scene_docs(self):
        if not self.has_full_mask or self.builder_config.public:
            return {}
        return {
            "curtain": (
                (2,),
                "Row and column of the curtain's top-left corner, pixels of an image of 64; its side is 28.",
            )
        }

    @property
    def has_full_mask(self):
        return self.variant.curtain

    @property
    def provenance(self):
        config = self.builder_config
        return (
            {"file": self._published.name}
            if config.public
            else {"variant": config.variant, "seed": config.seed}
        )

    @property
    def _published(self):
        frames = self.clip_shape()[0]
        return published_file.PublishedFile(
            _FILES[self.variant.max_balls], self.builder_config.variant, frames
        )

    def generate(self, indices):
        return self.generator()(indices)

    def generator(self):
        config = self.builder_config
        num_frames, size, *_ = self.clip_shape()
        return functools.partial(
            balls.clips, seed=config.seed, variant=config.variant, num_frames=num_frames, size=size
        )

    def clip_shape(self):
        config = self.builder_config
        size = config.image_size or balls.DEFAULT_SIZE
        return (
            config.num_frames or balls.DEFAULT_FRAMES,
            size,
            size,
            self.variant.channels,
            self.variant.num_entities,
        )

    def public_source(self, dl_manager):
        """Returns the published file: the config's path, or that of the manual directory."""
        name = self._published.name
        path = item_builder.local_file(self.builder_config, dl_manager, name)
        if path is None:
            raise UserError(
                f"Config {self.builder_config.name!r} reads {name}, which is not in the manual directory. Download it from "
                f"{published_file.LINK} into the folder `downloads/manual` of the data directory (or give the config's `path`), "
                f"or build the config {self.DEFAULT_BUILDER_CONFIG_NAME!r}, which needs no file."
            )
        self._published.check(
            path, {split: stop - start for split, (start, stop) in self.split_ranges().items()}
        )
        return path

    def read_public(self, source, split, start, stop):
        # Each split is a group of the file, and its clips are counted from the group's first one.
        return self._published.read(source, split, 0, stop - start)
