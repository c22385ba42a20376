"""TFDS builder of Video Objects Room: flights generated from a seed, or read from the published file."""

import dataclasses
import functools

import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import item_builder, video_builder
from tfobj.datasets.generators import rooms
from tfobj.datasets.video_objects_room import published_file
from tfobj.errors import UserError, unknown_name

_PUBLISHED_FRAMES = 10
_LARGE = {"num_train": 10_000, "validation_start": 10_000, "num_test": 1_000, "test_start": 11_000}


@dataclasses.dataclass(eq=False)
class VideoRoomConfig(video_builder.VideoConfig):
    """One way to make clips of rooms. Of published clips there are as many as the file has, but at most these numbers.

    Attributes:
      variant: name of a set in `rooms.VARIANTS`; of no effect on published clips.
      segmentation: whether to read the masks of published clips; else they are 255, unknown.
    """

    num_train: int = 2_000
    num_test: int = 320
    test_start: int = 10_000
    validation_start: int = 9_000
    variant: str = "train"
    segmentation: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.variant not in rooms.VARIANTS:
            raise unknown_name("variant", self.variant, rooms.VARIANTS)
        if self.public and self.image_size is not None:
            raise UserError(
                "`image_size` is an option of generated data; the published file has one size. Received: "
                f"image_size={self.image_size}."
            )
        if self.image_size is not None and self.image_size < rooms.MIN_SIZE:
            raise UserError(
                f"`image_size` must be at least {rooms.MIN_SIZE}. Received: image_size={self.image_size}."
            )
        if not self.public and self.num_frames is not None and self.num_frames > rooms.NUM_FRAMES:
            raise UserError(
                f"`num_frames` must be in 1 ... {rooms.NUM_FRAMES} for flights. Received: num_frames={self.num_frames}."
            )


class Builder(video_builder.VideoBuilder):
    """Video Objects Room. `generated*` needs no network, `published` reads files that the user downloads."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Generated flights, and the published clips."}
    BUILDER_CONFIGS = [
        VideoRoomConfig(name="generated", description="Flights through rooms with three objects.")
    ]
    ON_REQUEST_CONFIGS = [
        VideoRoomConfig(
            name="generated_10000",
            description="Flights through rooms with three objects, more of them.",
            **_LARGE,
        ),
        VideoRoomConfig(
            name="published",
            public=True,
            description="The published clips (VOR), from files on disk.",
            **_LARGE,
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "generated"
    HOMEPAGE = "https://github.com/ecker-lab/object-centric-representation-benchmark"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Only for the config `published`: download {published_file.NAME} and vor_test.json from {published_file.LINK} into the "
        "manual directory."
    )
    PARALLEL = True
    CHUNK = 4

    # TFDS infers both from the module's name, which does not lead to the files of a source checkout.
    code_path = epath.Path(__file__)
    pkg_dir_path = code_path.parent

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
        return (
            {"file": published_file.NAME}
            if config.public
            else {"variant": config.variant, "seed": config.seed}
        )

    def clip_shape(self):
        config = self.builder_config
        if config.public:
            return (
                config.num_frames or _PUBLISHED_FRAMES,
                published_file.SIZE,
                published_file.SIZE,
                3,
                1 + published_file.MAX_OBJECTS,
            )
        size = config.image_size or rooms.DEFAULT_SIZE
        return (
            config.num_frames or rooms.NUM_FRAMES,
            size,
            size,
            3,
            rooms.get_variant(config.variant).num_entities,
        )

    def generate(self, indices):
        return self.generator()(indices)

    def generator(self):
        config = self.builder_config
        num_frames, size, *_ = self.clip_shape()
        return functools.partial(
            rooms.clips, seed=config.seed, variant=config.variant, num_frames=num_frames, size=size
        )

    def public_source(self, dl_manager):
        """Returns the published file: the config's path, or that of the manual directory."""
        config = self.builder_config
        path = item_builder.local_file(config, dl_manager, published_file.NAME)
        how = (
            f"Download it from {published_file.LINK} into the folder `downloads/manual` of the data directory (or give the config's "
            f"`path`), or build the config {self.DEFAULT_BUILDER_CONFIG_NAME!r}, which needs no file."
        )
        if path is None:
            raise UserError(
                f"Config {config.name!r} reads {published_file.NAME}, which is not in the manual directory. {how}"
            )
        published_file.check(path, self.split_ranges(), self.clip_shape()[0])
        masks = published_file.masks_file(path, "test")
        if config.segmentation and not masks.exists():
            raise UserError(
                f"`{masks}`, the masks of the test clips, must lie beside {published_file.NAME}, or `segmentation` be False. {how}"
            )
        return path

    def read_public(self, source, split, start, stop):
        # Each split is a data set of the file, and its clips are counted from that set's first one.
        return published_file.read(
            source, split, stop - start, self.clip_shape()[0], self.builder_config.segmentation
        )
