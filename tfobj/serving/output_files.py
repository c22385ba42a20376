"""Names and formats of the files that hold decompositions."""

import numpy as np
from PIL import Image

from tfobj import files


class OutputNames:
    """Gives every result a name of its own, also if pictures of several folders share theirs."""

    def __init__(self):
        self._taken = set()

    def unused(self, stem):
        """Returns `stem`, with a number if another file has taken it."""
        name = stem
        number = 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        return name


def write_arrays(path, **arrays):
    """Writes arrays as a compressed .npz file; the file appears whole or not at all."""
    with files.atomic_path(path) as partial:
        np.savez_compressed(partial, **{name: np.asarray(a) for name, a in arrays.items()})


def write_image(path, image):
    """Writes an image [H, W, C] in [0, 1] (values outside are clipped) as 8-bit PNG."""
    levels = np.rint(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
    if levels.shape[-1] == 1:
        levels = levels[..., 0]
    with files.atomic_path(path) as partial:
        Image.fromarray(levels).save(partial)
