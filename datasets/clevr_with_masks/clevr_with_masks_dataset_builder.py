"""TFDS builder of CLEVR with masks: ray-cast from a seed, rendered by Blender, or read from the published file."""

import dataclasses
import functools

import tensorflow_datasets as tfds
from etils import epath

from tfobj.datasets import public_records, scene_builder
from tfobj.datasets.blender import driver
from tfobj.datasets.generators import clevr_scenes
from tfobj.errors import UserError, unknown_name

_RENDERERS = {"raycast": clevr_scenes.scenes, "blender": driver.scenes}
_DEFAULT_VARIANT = "clevr6"

# The published file's picture, entities and count; papers cut their test scenes from record 70,000 on.
_PUBLIC_SHAPE, _PUBLIC_ENTITIES = (240, 320, 3), 11
_PUBLIC_SIZES = {"num_train": 70_000, "num_test": 30_000, "test_start": 70_000}


@dataclasses.dataclass(eq=False)
class ClevrConfig(scene_builder.SceneConfig):
    """One way to make CLEVR scenes. Defaults give CLEVR6, with as many scenes as the published file has of them.

    Attributes:
      variant: name of a set in `clevr_scenes.VARIANTS`; of no effect on the published file.
      renderer: "raycast" needs NumPy alone, "blender" needs Blender.
      samples: of Blender, per pixel; the pictures are denoised.
      depth_map: whether to store a depth map per scene; adds about 15 kB each at 128 x 128.
    """

    num_train: int = 37_400
    num_test: int = 2_000
    test_start: int = 70_000
    variant: str = _DEFAULT_VARIANT
    renderer: str = "raycast"
    samples: int = driver.DEFAULT_SAMPLES
    depth_map: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.variant not in clevr_scenes.VARIANTS:
            raise unknown_name("variant", self.variant, clevr_scenes.VARIANTS)
        if self.renderer not in _RENDERERS:
            raise unknown_name("renderer", self.renderer, _RENDERERS)
        if self.image_size is not None and self.image_size < clevr_scenes.MIN_SIZE:
            raise UserError(
                f"`image_size` must be at least {clevr_scenes.MIN_SIZE}. Received: image_size={self.image_size}."
            )
        if self.samples < 1:
            raise UserError(f"`samples` must be at least 1. Received: samples={self.samples}.")
        if self.public and self.depth_map:
            raise UserError(
                "`depth_map` is an option of generated data; the published file has none. Received: depth_map=True."
            )


def _sizes(variant):
    """Returns the papers' numbers of scenes of a variant."""
    if variant == "clevr":
        return {"num_train": 70_000, "num_test": 4_000, "test_start": 70_000}
    if clevr_scenes.VARIANTS[variant].max_objects <= 5:  # Anciukevicius 2020
        return {"num_train": 90_000, "num_test": 10_000, "test_start": 90_000}
    return {}


def _config(renderer, variant, suffix="", **options):
    set_ = clevr_scenes.VARIANTS[variant]
    options = {**_sizes(variant), **options}
    return ClevrConfig(
        name=f"{renderer}_{variant}{suffix}",
        variant=variant,
        renderer=renderer,
        description=f"Variant {variant} with {set_.min_objects}-{set_.max_objects} objects, by {renderer}.",
        **options,
    )


class Builder(scene_builder.SceneBuilder):
    """CLEVR with masks. `raycast_*` needs no network, `blender_*` needs Blender, `public` reads the published file."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {
        "1.0.0": "Ray-cast scenes, scenes rendered by Blender, and the published ones."
    }
    # What `tfds build` makes without --config: minutes, where the papers' numbers of scenes take hours.
    BUILDER_CONFIGS = [
        _config("raycast", _DEFAULT_VARIANT, "_1680_320", num_train=1_680, num_test=320)
    ]
    ON_REQUEST_CONFIGS = [
        *(_config("raycast", variant) for variant in clevr_scenes.VARIANTS),
        *(
            _config("raycast", variant, "_96", image_size=96)
            for variant in ("clevr", _DEFAULT_VARIANT)
        ),
        *(_config("blender", variant) for variant in clevr_scenes.VARIANTS),
        ClevrConfig(
            name="public",
            public=True,
            description="The published scenes (10.5 GB download), 240x320.",
            **_PUBLIC_SIZES,
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = BUILDER_CONFIGS[0].name

    HAS_AMODAL_MASKS = True
    PARALLEL = True
    CHUNK = 8

    # TFDS infers both from the module's name, which does not lead to the files of a source checkout.
    code_path = epath.Path(__file__)
    pkg_dir_path = code_path.parent

    @property
    def variant(self):
        """The `clevr_scenes.Variant` of this config."""
        return clevr_scenes.get_variant(self.builder_config.variant)

    @property
    def factor_docs(self):
        public = self.builder_config.public
        docs = {
            "color": (
                (),
                "1 red, 2 cyan, 3 green, 4 blue, 5 brown, 6 gray, 7 purple, 8 yellow, 0 background or absent.",
            ),
            "shape": ((), "1 sphere, 2 cylinder, 3 cube."),
            "material": ((), "1 rubber, 2 metal."),
            "size": ((), "1 large, 2 small."),
            "x": ((), "Centre in the world."),
            "y": ((), "Centre in the world."),
            "z": ((), "Height of the centre, equal to the object's scale."),
            "rotation": (
                (),
                "Azimuth in degrees, as drawn by the program that used it as radians."
                if public
                else "Azimuth in radians.",
            ),
            "pixel_coords": (
                (3,),
                "Column and row of the centre in the camera's full picture, depth along the optical axis.",
            ),
            "visibility": (
                (),
                "1 for every entity that exists, the background included; it may lie outside the image.",
            ),
        }
        if not public:
            docs["rgb"] = ((3,), "Linear RGB in [0, 1].")
            docs["depth"] = ((), "Distance of the centre from the camera.")
        return docs

    @property
    def scene_docs(self):
        if self.builder_config.public:
            return {}
        return {
            "camera": ((3,), "Position; the camera faces the origin."),
            "lights": ((3, 3), "Positions of key, fill and back lamp, which face the origin."),
            "ground_reflectivity": ((), "Diffuse reflectivity of the ground."),
        }

    @property
    def has_depth_map(self):
        return self.builder_config.depth_map

    @property
    def provenance(self):
        config = self.builder_config
        if config.public:
            return {}
        samples = {"samples": config.samples} if self._by_blender else {}
        return {
            "renderer": config.renderer,
            "variant": config.variant,
            "seed": config.seed,
            **samples,
        }

    @property
    def _by_blender(self):
        return self.builder_config.renderer == "blender" and not self.builder_config.public

    def generate(self, indices):
        return self.generator()(indices)

    def generator(self):
        config = self.builder_config
        options = {"samples": config.samples} if self._by_blender else {}
        return functools.partial(
            _RENDERERS[config.renderer],
            seed=config.seed,
            variant=config.variant,
            size=self.scene_shape()[0],
            **options,
        )

    def scene_shape(self):
        if self.builder_config.public:
            return *_PUBLIC_SHAPE, _PUBLIC_ENTITIES
        size = self.builder_config.image_size or self.variant.default_size
        return size, size, self.variant.channels, self.variant.num_entities

    def public_file(self):
        return public_records.PublicFile(
            path="clevr_with_masks/clevr_with_masks_train.tfrecords",
            image_shape=_PUBLIC_SHAPE,
            num_entities=_PUBLIC_ENTITIES,
            factors={name: trailing for name, (trailing, _) in self.factor_docs.items()},
            byte_factors=("color", "shape", "material", "size"),
        )

    def _download_and_prepare(self, dl_manager, download_config):
        if self._by_blender:
            self.info.metadata["blender"] = driver.version()  # or an error, before anything is made
        super()._download_and_prepare(dl_manager, download_config)
