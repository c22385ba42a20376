"""TFDS builder of Video Objects Room: generated from a seed, or read from the published file."""

import dataclasses
import functools

import tensorflow_datasets as tfds

from tfobj.datasets import video_builder
from tfobj.datasets.generators import rooms
from tfobj.datasets.video_objects_room import published_file
from tfobj.errors import UserError

_PUBLISHED_FRAMES = 10

_LARGE = {"num_train": 10_000, "validation_start": 10_000, "num_test": 1_000, "test_start": 11_000}


@dataclasses.dataclass(eq=False)
class VideoRoomConfig(video_builder.VideoConfig):
    """One way to make clips of rooms.

    The published splits have at most these numbers of clips, and fewer if the file has fewer.

    Attributes:
      variant: key of `rooms.VARIANTS`; published clips ignore it.
      segmentation: whether to read the masks of published clips; otherwise they are 255, unknown.
    """

    num_train: int = 2_000
    num_test: int = 320
    test_start: int = 10_000
    validation_start: int = 9_000
    variant: str = "train"
    segmentation: bool = True

    VARIANTS = rooms.VARIANTS
    MIN_IMAGE_SIZE = rooms.MIN_SIZE

    def __post_init__(self):
        super().__post_init__()
        if not self.public:
            self.check_bounds("num_frames", 1, rooms.NUM_FRAMES, " for flights")


class Builder(video_builder.VideoBuilder):
    """Video Objects Room.

    `generated*` needs no network; `published` reads files that users download.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Generated flights, and the published clips."}
    BUILDER_CONFIGS = [
        VideoRoomConfig(name="generated", description="Flights through rooms with three objects.")
    ]
    ON_REQUEST_CONFIGS = [
        VideoRoomConfig(
            name="generated_10000",
            description="More flights through rooms with three objects.",
            **_LARGE,
        ),
        VideoRoomConfig(
            name="published",
            public=True,
            description="The published clips (VOR), from files on disk.",
            **_LARGE,
        ),
    ]
    HOMEPAGE = "https://github.com/ecker-lab/object-centric-representation-benchmark"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Only for the config `published`: download {published_file.NAME} and vor_test.json from "
        f"{published_file.LINK} into the manual directory."
    )

    DEFAULT_IMAGE_SIZE = rooms.DEFAULT_SIZE
    PARALLEL = True
    CHUNK = 4

    @property
    def factor_docs(self):
        if self.builder_config.public:
            return {"visibility": ((), "1 for the background and for objects that the clip shows.")}
        return {
            "shape": ((), "1 sphere, 2 cylinder, 3 cube, 0 background or absent."),
            "size": (
                (),
                "Radius of sphere and cylinder, half the height of all; the room is 7 wide.",
            ),
            "x": ((), "Where it stands in the room."),
            "y": ((), "Where it stands in the room."),
            "rotation": ((), "About the vertical axis, radians."),
            "color": ((3,), "RGB in [0, 1]."),
            "visibility": (
                (),
                "1 for every entity that exists, the background included; it may be out of view.",
            ),
        }

    @property
    def track_docs(self):
        if self.builder_config.public:
            return {}
        return {
            "pixel_coords": (
                (3,),
                "Column and row of the centre in a picture of 64, depth along the optical axis.",
            ),
            "depth": ((), "Distance of the centre from the camera."),
        }

    @property
    def scene_docs(self):
        if self.builder_config.public:
            return {}
        frames = self.clip_shape()[0]
        return {
            "wall_color": ((3,), "RGB in [0, 1], before shading."),
            "floor_color": ((3,), "RGB in [0, 1], before shading."),
            "azimuth": ((frames,), "Of the camera on its ring, radians, per frame."),
            "pitch": ((frames,), "Of the camera, radians, upwards, per frame."),
        }

    @property
    def provenance(self):
        config = self.builder_config
        if config.public:
            return {"file": published_file.NAME}
        return {"variant": config.variant, "seed": config.seed}

    @property
    def num_frames(self):
        default = _PUBLISHED_FRAMES if self.builder_config.public else rooms.NUM_FRAMES
        return self.builder_config.num_frames or default

    def clip_shape(self):
        config = self.builder_config
        if config.public:
            num_entities = 1 + published_file.MAX_OBJECTS
        else:
            num_entities = rooms.get_variant(config.variant).num_entities
        return self.num_frames, self.image_size, self.image_size, 3, num_entities

    def generator(self):
        config = self.builder_config
        return functools.partial(
            rooms.clips,
            seed=config.seed,
            variant=config.variant,
            num_frames=self.num_frames,
            size=self.image_size,
        )

    def public_source(self, dl_manager):
        """Returns the path of the published file: the config's, or that in the manual directory."""
        path = self.require_on_disk(dl_manager, published_file.NAME, published_file.LINK)
        published_file.check(path, self.split_ranges(), self.num_frames)

        masks = published_file.masks_file(path, "test")
        if self.builder_config.segmentation and not masks.exists():
            raise UserError(
                f"`{masks}`, the masks of the test clips, must lie beside {published_file.NAME}, "
                f"or `segmentation` be False. {self.how_to_get(published_file.LINK)}"
            )
        return path

    def read_public(self, source, split, start, stop):
        # Each split is a data set of the file, which numbers its clips from 0.
        return published_file.read(
            source, split, stop - start, self.num_frames, self.builder_config.segmentation
        )
