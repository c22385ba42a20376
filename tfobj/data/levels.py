"""From the pixels that a picture file stores to 8-bit RGB, as a viewer shows them.

Numbers count by what they are, never by what they might mean: unsigned integers of 8 to 16 bits are
scaled from their whole range, floats from [0, 1]. Other floats, NaN, signed integers, and those of
32 bits, whose range no file tells, are refused. Transparent parts show `BACKGROUND`. A colour
profile is converted to sRGB.
"""

import io

import numpy as np
from PIL import Image, ImageCms

BACKGROUND = "white"
"""Colour behind transparent parts."""

_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the picture upright."""

# Tags of TIFF files.
_BITS = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_SAMPLE_FORMAT = 339
_SIGNED = 2

_HALF_LEVEL = 0.5 / 255
"""Floats this far outside [0, 1] still round to a level; filters overshoot by less."""

_MODES_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")

_SPACES = {"1": "GRAY", "L": "GRAY", "LA": "GRAY", "CMYK": "CMYK"}
"""Pillow mode -> colour space of a profile that fits it; RGB for all others."""


def upright(image, orientation):
    """Returns a picture turned and mirrored as its EXIF `orientation` (1 to 8) says."""
    transpose = _TRANSPOSES.get(orientation)
    if transpose is None:
        return image
    return image.transpose(transpose)


def stored_orientation(image):
    """Returns the EXIF orientation of a loaded picture; 1 if it has none that can be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    # A picture with damaged EXIF data is shown as it lies. What that data throws depends on the
    # bytes: struct.error, SyntaxError, KeyError, ...
    except Exception:
        return 1


def to_rgb(image):
    """Returns a loaded Pillow picture of any mode as one of mode RGB.

    Raises:
      ValueError: numbers that no rule of this module covers.
    """
    alpha = None
    if image.mode.startswith(("I", "F")):
        image, alpha = _deep_gray(image)
    elif "transparency" in image.info or image.mode in _MODES_WITH_ALPHA:
        alpha = _alpha(image)

    colours = _to_srgb(image)
    if alpha is None:
        return colours
    shown = Image.new("RGB", colours.size, BACKGROUND)
    shown.paste(colours, mask=alpha)
    return shown


def _alpha(image):
    """Returns the opacity of a picture as 8-bit gray."""
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    colour = image.info.get("transparency")
    if isinstance(colour, tuple) and max(colour) > 255:
        # Colour pictures of 16 bits lost their lower bits, the transparent colour did not.
        image = image.copy()
        image.info["transparency"] = tuple(level >> 8 for level in colour)
    return image.convert("RGBA").getchannel("A")


def _deep_gray(image):
    """Returns (8-bit gray, transparency or None) of a picture of integers or floats.

    Integers lose their lower bits, as Pillow does with colour pictures of 16 bits.
    """
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        levels = _levels_of_floats(values)
    else:
        bits = tags.get(_BITS, (16,))[0]
        is_signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
        levels = _levels_of_integers(values, bits, is_signed)

    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        levels = 255 - levels
    alpha = None
    if "transparency" in image.info:
        opaque = values != image.info["transparency"]
        alpha = Image.fromarray(np.uint8(255) * opaque)
    return Image.fromarray(levels), alpha


def _levels_of_floats(values):
    """Returns uint8 levels of floats in [0, 1]."""
    if not np.isfinite(values).all():
        raise ValueError("floats must be finite; it has NaN or infinity")
    low = float(values.min())
    high = float(values.max())
    if low < -_HALF_LEVEL or high > 1 + _HALF_LEVEL:
        raise ValueError(f"floats must lie in [0, 1]; it has {low:g} to {high:g}")
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def _levels_of_integers(values, bits, is_signed):
    """Returns uint8 levels of integers in [0, 2**bits)."""
    if is_signed or not 8 <= bits <= 16:
        sign = "signed " if is_signed else ""
        raise ValueError(f"integers must be unsigned, of 8 to 16 bits; it has {sign}{bits}")
    low = int(values.min())
    high = int(values.max())
    if low < 0 or high >= 1 << bits:
        raise ValueError(f"integers must lie in 0 ... {(1 << bits) - 1}; it has {low} to {high}")
    return (values >> (bits - 8)).astype(np.uint8)


def _to_srgb(image):
    """Returns a picture as mode RGB, without its transparency, in the colours of sRGB."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            return _apply_profile(image, profile)
        # A profile that cannot be used is ignored, as viewers do. LittleCMS and Pillow report it
        # by whatever error they meet first.
        except Exception:
            return image.convert("RGB")
    return image.convert("RGB")


def _apply_profile(image, profile):
    """Converts a picture to sRGB by its colour profile, the bytes of an ICC file."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = _SPACES.get(image.mode, "RGB")
    fits = source.profile.xcolor_space.strip() == space
    if not fits or "sRGB" in ImageCms.getProfileDescription(source):
        return image.convert("RGB")

    modes = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
    return ImageCms.profileToProfile(
        image.convert(modes[space]), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
