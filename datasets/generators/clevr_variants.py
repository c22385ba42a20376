"""Variants of CLEVR scenes: number, sizes and colours of objects, and the frame of the image.

| variant | objects | sizes | image, crop | difference |
|---|---|---|---|---|
| clevr | 3-10 | 0.7, 0.35 | 320x240, rows 29-220, columns 64-255 | |
| clevr6, clevr10 | 3-6, 7-10 | as above | as above | |
| clevr6_no_green_spheres | 3-6 | as above | as above | no scenes with a green sphere |
| clevr6_grayscale | 3-6 | as above | as above | the luma of clevr6, scene by scene |
| clevr3 | 2-3 | 1.3, 1.0 | 96x96 | brighter red and cyan, satin metal |
| clevr5 | 3-5 | 0.5, 0.4 | 160x120, the middle 96x96 | no gray objects |
| clevr5_vbg | 3-5 | as above | as above | the ground has one of six reflectivities |

Source: Johnson et al. 2017; Greff 2019 (crop, three to six objects, gray images, green spheres);
Emami et al. 2021 (CLEVR10); Anciukevicius et al. 2020 (CLEVR-3, CLEVR-5, varied background) and the
history of their generator. The six reflectivities are unpublished; chosen here: a geometric series
from 0.1 to 0.8.
"""

import dataclasses

import numpy as np

from . import raycast, raycast_shading

COLORS = {
    "red": (173, 35, 35),
    "cyan": (41, 208, 208),
    "green": (29, 105, 20),
    "blue": (42, 75, 215),
    "brown": (129, 74, 25),
    "gray": (87, 87, 87),
    "purple": (129, 38, 192),
    "yellow": (255, 238, 51),
}
"""Colours of ids 1 ... 8; divided by 255 they are linear RGB, so objects look paler than these."""
COLOR_NAMES = tuple(COLORS)
SIZE_NAMES = ("large", "small")
"""Names of size ids 1, 2.

Those of shapes and materials are in `raycast_shapes` and `raycast_shading`.
"""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One dataset of scenes.

    Attributes:
      name: of the variant.
      min_objects: least number of objects; the number is uniform.
      max_objects: greatest number of objects.
      frame: the camera's full image and the crop of it that is rendered.
      default_size: image side in pixels.
      sizes: scales of large and small objects (radius, half the side).
      min_pixels: least number of visible pixels in the full image, per object and for the
        background.
      colors: names of the colours that occur.
      repainted: pairs (name, 8-bit RGB) of colours that differ from `COLORS`.
      metal_lobes: pairs (weight, GGX width) of metal.
      reflectivities: diffuse reflectivities of the ground, sampled uniformly.
      channels: 3, or 1 for the luma of the same image.
      excluded: (colour, shape) of objects whose scenes are left out, or None.
      stream: variants with the same number share their random numbers.
    """

    name: str
    min_objects: int
    max_objects: int
    frame: raycast.Frame = raycast.Frame(240, 320, (29, 221), (64, 256))
    default_size: int = 128
    sizes: tuple = (0.7, 0.35)
    min_pixels: int = 200
    colors: tuple = COLOR_NAMES
    repainted: tuple = ()
    metal_lobes: tuple = raycast_shading.METAL_LOBES
    reflectivities: tuple = (0.8,)
    channels: int = 3
    excluded: tuple | None = None
    stream: int = 0

    @property
    def num_entities(self):
        """Length of the entity axis: background and `max_objects`."""
        return 1 + self.max_objects

    @property
    def palette(self):
        """Linear RGB [9, 3] of colour ids; row 0, no colour, is zero."""
        return np.array([(0, 0, 0), *(COLORS | dict(self.repainted)).values()]) / 255


_CLEVR5 = dict(
    min_objects=3,
    max_objects=5,
    frame=raycast.Frame(120, 160, (12, 108), (32, 128)),
    default_size=96,
    sizes=(0.5, 0.4),
    min_pixels=50,
    colors=tuple(name for name in COLOR_NAMES if name != "gray"),
)

VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("clevr", 3, 10),
        Variant("clevr6", 3, 6, stream=1),
        Variant("clevr10", 7, 10, stream=2),
        Variant("clevr6_no_green_spheres", 3, 6, excluded=("green", "sphere"), stream=1),
        Variant("clevr6_grayscale", 3, 6, channels=1, stream=1),
        Variant(
            "clevr3",
            2,
            3,
            frame=raycast.Frame.whole(96, 96),
            default_size=96,
            sizes=(1.3, 1.0),
            min_pixels=10,
            repainted=(("red", (215, 35, 35)), ("cyan", (41, 215, 208))),
            metal_lobes=raycast_shading.SATIN_LOBES,
            stream=3,
        ),
        Variant("clevr5", stream=4, **_CLEVR5),
        Variant(
            "clevr5_vbg", reflectivities=(0.1, 0.152, 0.230, 0.348, 0.528, 0.8), stream=5, **_CLEVR5
        ),
    )
}


def get_variant(variant):
    """Returns the `Variant` of a name, or the argument if it is a `Variant`.

    Raises:
      ValueError: if the name is unknown; the message lists the valid ones.
    """
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}. Received: {variant!r}.")
    return VARIANTS[variant]
