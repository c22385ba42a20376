"""TFDS builder of bouncing balls, simulated from a seed or read from the published files."""

import dataclasses
import functools

import tensorflow_datasets as tfds

from tfobj.datasets import video_builder
from tfobj.datasets.bouncing_balls import published_file
from tfobj.datasets.generators import balls

_FILES = {4: "balls4mass64.h5", 8: "balls678mass64.h5", 3: "balls3curtain64.h5"}
"""Greatest number of balls -> published file."""


@dataclasses.dataclass(eq=False)
class BallsConfig(video_builder.VideoConfig):
    """One way to make clips of bouncing balls.

    The defaults give the papers' numbers of clips for training and test.

    Attributes:
      variant: key of `balls.VARIANTS`.
    """

    variant: str = balls.DEFAULT_VARIANT

    VARIANTS = balls.VARIANTS
    MIN_IMAGE_SIZE = balls.MIN_SIZE


def _simulated(variant):
    return BallsConfig(
        name=variant, variant=variant, description=f"{_describe(variant)}, simulated."
    )


def _published(variant):
    return BallsConfig(
        name=f"published_{variant}",
        variant=variant,
        public=True,
        description=f"{_describe(variant)}, read from the published file.",
    )


def _describe(variant):
    facts = balls.VARIANTS[variant]
    number = str(facts.max_balls)
    if facts.min_balls < facts.max_balls:
        number = f"{facts.min_balls}-{facts.max_balls}"
    colors = f"{facts.num_colors} colours" if facts.num_colors else "white"
    curtain = ", partly behind a curtain" if facts.curtain else ""
    return f"{number} balls, {colors}{curtain}"


class Builder(video_builder.VideoBuilder):
    """Bouncing balls.

    `balls*` needs no network; `published_balls*` reads the published files, which users download.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Simulated clips, and the published ones."}
    BUILDER_CONFIGS = [_simulated(balls.DEFAULT_VARIANT)]
    ON_REQUEST_CONFIGS = [
        *(_simulated(variant) for variant in balls.VARIANTS if variant != balls.DEFAULT_VARIANT),
        *(_published(variant) for variant in balls.VARIANTS),
    ]
    HOMEPAGE = "https://github.com/sjoerdvansteenkiste/Relational-NEM"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Only for the configs `published_*`: download {', '.join(_FILES.values())}, or just the "
        f"one that the config reads, from {published_file.LINK} into the manual directory."
    )

    DEFAULT_IMAGE_SIZE = balls.DEFAULT_SIZE
    DEFAULT_FRAMES = balls.DEFAULT_FRAMES

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
                "1 for every entity that exists, the background included; "
                "a ball may be behind the curtain.",
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
                "Column and row of the centre in units of the box, "
                f"whose side of {self.variant.box:g} fills the image.",
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
                "Row and column of the curtain's top-left corner, pixels of an image of 64; "
                "its side is 28.",
            )
        }

    @property
    def has_full_mask(self):
        return self.variant.curtain

    @property
    def provenance(self):
        config = self.builder_config
        if config.public:
            return {"file": self._published_file.name}
        return {"variant": config.variant, "seed": config.seed}

    @property
    def _published_file(self):
        name = _FILES[self.variant.max_balls]
        return published_file.PublishedFile(name, self.builder_config.variant, self.num_frames)

    def generator(self):
        config = self.builder_config
        return functools.partial(
            balls.clips,
            seed=config.seed,
            variant=config.variant,
            num_frames=self.num_frames,
            size=self.image_size,
        )

    def clip_shape(self):
        variant = self.variant
        size = self.image_size
        return self.num_frames, size, size, variant.channels, variant.num_entities

    def public_source(self, dl_manager):
        """Returns the path of the published file: the config's, or that in the manual directory."""
        file = self._published_file
        path = self.require_on_disk(dl_manager, file.name, published_file.LINK)
        sizes = {split: stop - start for split, (start, stop) in self.split_ranges().items()}
        file.check(path, sizes)
        return path

    def read_public(self, source, split, start, stop):
        # Each split is a group of the file, which numbers its clips from 0.
        return self._published_file.read(source, split, 0, stop - start)
