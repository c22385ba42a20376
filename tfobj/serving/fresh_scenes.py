"""Generated scenes that no model was trained or tested on, by the name of their data set."""

import functools

from tfobj.errors import unknown_name

FIRST_SCENE = 10**6
"""Training and test sets are the scenes of a generator below 100,000."""

NUM_FRAMES = 40
"""Frames of a generated clip."""


def image_generators():
    """Returns name -> generator of images.

    A generator is a function of scene numbers that returns `image` uint8 [n, H, W, C] and `mask`
    [n, H, W], among others.
    """
    from tfobj.datasets.generators import polygons, sprites, tetris

    generators = {
        "tetris": tetris.scenes,
        "multi_dsprites": sprites.scenes,
        "overlapping_polygons": polygons.scenes,
    }
    for variant in sprites.VARIANTS:
        if variant != "colored_on_grayscale":  # that is `multi_dsprites`
            name = f"multi_dsprites_{variant}"
            generators[name] = functools.partial(sprites.scenes, variant=variant)
    return generators


def clip_generators():
    """Returns name -> generator of video clips.

    A generator is a function of clip numbers and the frames' `size` that returns `video` uint8
    [n, T, size, size, C] and `mask` [n, T, size, size], among others.
    """
    from tfobj.datasets.generators import balls, clevrer_clips

    return {
        name: functools.partial(module.clips, variant=name, num_frames=NUM_FRAMES)
        for module in (balls, clevrer_clips)
        for name in module.VARIANTS
    }


def smallest_frame():
    """Returns the smallest side of a frame that all generators of clips can draw."""
    from tfobj.datasets.generators import balls

    return balls.MIN_SIZE


def generator(name, is_video=None):
    """Returns the generator of a data set.

    Args:
      name: of the data set or variant.
      is_video: True for generators of clips only, False for images only, None for either.

    Raises:
      UserError: an unknown name; lists the valid ones.
    """
    kind = ""
    valid = {}
    if is_video is not True:
        valid |= image_generators()
    if is_video is not False:
        valid |= clip_generators()
    if is_video is not None:
        kind = " of clips" if is_video else " of images"
    if name not in valid:
        raise unknown_name(f"generated data set{kind}", name, valid)
    return valid[name]
