"""TFDS builder of CLEVR with masks: ray-cast, rendered by Blender, or published."""

import dataclasses
import functools

import tensorflow_datasets as tfds

from tfobj.datasets import scene_builder
from tfobj.datasets.blender import driver
from tfobj.datasets.generators import clevr_scenes
from tfobj.errors import UserError, unknown_name

_RENDERERS = {"raycast": clevr_scenes.scenes, "blender": driver.scenes}
_DEFAULT_VARIANT = "clevr6"

_PUBLIC_SHAPE = (240, 320, 3, 11)
"""Height, width, channels and entities of the published file."""

# Papers take their test scenes from record 70,000 on.
_PUBLIC_SIZES = {"num_train": 70_000, "num_test": 30_000, "test_start": 70_000}


@dataclasses.dataclass(eq=False)
class ClevrConfig(scene_builder.SceneConfig):
    """One way to make CLEVR scenes.

    The defaults give CLEVR6, with as many scenes as the published file has of this variant.

    Attributes:
      variant: key of `clevr_scenes.VARIANTS`; the published file ignores it.
      renderer: "raycast" needs only NumPy, "blender" needs Blender.
      samples: samples per pixel that Blender takes; it denoises the images.
      depth_map: whether to store a depth map per scene, which takes about 15 kB at 128x128.
    """

    num_train: int = 37_400
    num_test: int = 2_000
    test_start: int = 70_000
    variant: str = _DEFAULT_VARIANT
    renderer: str = "raycast"
    samples: int = driver.DEFAULT_SAMPLES
    depth_map: bool = False

    VARIANTS = clevr_scenes.VARIANTS
    MIN_IMAGE_SIZE = clevr_scenes.MIN_SIZE

    def __post_init__(self):
        super().__post_init__()
        if self.renderer not in _RENDERERS:
            raise unknown_name("renderer", self.renderer, _RENDERERS)
        self.check_bounds("samples", 1)
        if self.public and self.depth_map:
            raise UserError(
                "`depth_map` is an option of generated data; the published file has none. "
                "Received: depth_map=True."
            )


def _sizes(variant):
    """Returns the numbers of scenes that the papers use of a variant."""
    if variant == "clevr":
        return {"num_train": 70_000, "num_test": 4_000, "test_start": 70_000}
    if clevr_scenes.VARIANTS[variant].max_objects <= 5:  # Anciukevicius 2020
        return {"num_train": 90_000, "num_test": 10_000, "test_start": 90_000}
    return {}


def _config(renderer, variant, suffix="", **options):
    facts = clevr_scenes.VARIANTS[variant]
    number = f"{facts.min_objects}-{facts.max_objects}"
    options = {**_sizes(variant), **options}
    return ClevrConfig(
        name=f"{renderer}_{variant}{suffix}",
        variant=variant,
        renderer=renderer,
        description=f"Variant {variant} with {number} objects, by {renderer}.",
        **options,
    )


class Builder(scene_builder.SceneBuilder):
    """CLEVR with masks.

    `raycast_*` needs no network, `blender_*` needs Blender, and `public` reads the published file.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {
        "1.0.0": "Ray-cast scenes, scenes rendered by Blender, and the published ones."
    }
    # `tfds build` without `--config` builds these scenes in minutes; the papers' numbers of scenes
    # take hours.
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
            description="The published scenes at 240x320 (10.5 GB download).",
            **_PUBLIC_SIZES,
        ),
    ]

    HAS_AMODAL_MASKS = True
    PARALLEL = True
    CHUNK = 8

    @property
    def variant(self):
        """The `clevr_scenes.Variant` of this config."""
        return clevr_scenes.get_variant(self.builder_config.variant)

    @property
    def factor_docs(self):
        public = self.builder_config.public
        if public:
            rotation = "Azimuth in degrees, as drawn by the program that used it as radians."
        else:
            rotation = "Azimuth in radians."

        docs = {
            "color": (
                (),
                "1 red, 2 cyan, 3 green, 4 blue, 5 brown, 6 gray, 7 purple, 8 yellow, "
                "0 background or absent.",
            ),
            "shape": ((), "1 sphere, 2 cylinder, 3 cube."),
            "material": ((), "1 rubber, 2 metal."),
            "size": ((), "1 large, 2 small."),
            "x": ((), "Centre in the world."),
            "y": ((), "Centre in the world."),
            "z": ((), "Height of the centre, equal to the object's scale."),
            "rotation": ((), rotation),
            "pixel_coords": (
                (3,),
                "Column and row of the centre in the camera's full picture, "
                "depth along the optical axis.",
            ),
            "visibility": (
                (),
                "1 for every entity that exists, the background included; "
                "it may lie outside the image.",
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
        return {
            "renderer": config.renderer,
            "variant": config.variant,
            "seed": config.seed,
            **self._blender_options,
        }

    @property
    def image_size(self):
        return self.builder_config.image_size or self.variant.default_size

    @property
    def _by_blender(self):
        return self.builder_config.renderer == "blender" and not self.builder_config.public

    @property
    def _blender_options(self):
        return {"samples": self.builder_config.samples} if self._by_blender else {}

    def generator(self):
        config = self.builder_config
        return functools.partial(
            _RENDERERS[config.renderer],
            seed=config.seed,
            variant=config.variant,
            size=self.image_size,
            **self._blender_options,
        )

    def scene_shape(self):
        if self.builder_config.public:
            return _PUBLIC_SHAPE
        variant = self.variant
        return self.image_size, self.image_size, variant.channels, variant.num_entities

    def public_file(self):
        return self.schema(
            "clevr_with_masks/clevr_with_masks_train.tfrecords",
            byte_factors=("color", "shape", "material", "size"),
        )

    def _download_and_prepare(self, dl_manager, download_config):
        # Without Blender this fails here, before any file is written.
        if self._by_blender:
            self.info.metadata["blender"] = driver.version()
        super()._download_and_prepare(dl_manager, download_config)
