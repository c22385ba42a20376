"""The vectors of slots: what is where in them.

A slot of an object holds [z_j, d~_j, row, column], its position in [-1, 1]; that of the background,
the last one, begins with z_bg. All are padded with zeros to one length S.
"""

import numpy as np
import tensorflow as tf

OUTSIDE = 100.0
"""A position far from the frame [-1, 1]."""


class FactoredSlots:
    """Joins latents and positions to slots, and takes slots apart.

    Args:
      config: `FactoredScenesConfig`.
    """

    def __init__(self, config):
        self.config = config

    def parts(self):
        """Returns the parts of an object's slot, {name: (start, stop)}."""
        size = self.config.appearance_size
        return {
            "appearance": (0, size),
            "depth": (size, size + 1),
            "position": (size + 1, size + 3),
        }

    def join(self, latents, centres, background):
        """Returns slots [B, J + 1, S].

        Args:
          latents: [B, J, D + 1], appearance and depth before the sigmoid.
          centres: int32 [B, J, 2], row and column in pixels.
          background: [B, D_bg].
        """
        size = self.config.slot_size
        objects = tf.concat([latents, self.coordinates(centres)], axis=-1)
        return tf.concat([_padded(objects, size), _padded(background, size)[:, None]], axis=1)

    def split(self, slots):
        """Takes slots [B, K, S] apart; positions may lie outside of the frame.

        Returns:
          (appearances [B, K - 1, D], depths before the sigmoid [B, K - 1], centres int32
          [B, K - 1, 2], background [B, D_bg]).
        """
        size = self.config.appearance_size
        height, width = self.config.image_size
        objects = slots[:, :-1]
        background = slots[:, -1]

        middle = [(height - 1) / 2, (width - 1) / 2]
        centres = tf.round((objects[..., size + 1 : size + 3] + 1.0) * middle)
        return (
            objects[..., :size],
            objects[..., size],
            tf.cast(centres, tf.int32),
            background[:, : self.config.background_size],
        )

    def coordinates(self, centres):
        """Returns positions in [-1, 1], 2 (row, column) / (H - 1, W - 1) - 1, of pixels.

        Args:
          centres: int32 [B, J, 2].
        """
        last = np.maximum(np.array(self.config.image_size, np.float32) - 1.0, 1.0)
        return 2.0 * tf.cast(centres, tf.float32) / last - 1.0

    def middles(self, centres):
        """Returns the middle of each canvas in pixels; of the frame for the background.

        For even M, it lies half a pixel before the position.

        Args:
          centres: int32 [B, J, 2].

        Returns:
          float32 [B, J + 1, 2].
        """
        half = (self.config.canvas_size - 1) / 2 - self.config.canvas_size // 2
        of_frame = (np.array(self.config.image_size, np.float32) - 1.0) / 2.0
        objects = tf.cast(centres, tf.float32) + half
        return tf.concat([objects, tf.zeros_like(objects[:, :1]) + of_frame], axis=1)

    def posterior(self, objects, background, kl_objects, kl_background):
        """Returns the Gaussians of all slots, padded to one length.

        The first numbers of a slot are these latents.

        Args:
          objects: `tfd.Normal` [B, J, D + 1].
          background: `tfd.Normal` [B, D_bg].
          kl_objects, kl_background: of the same shapes, nats.

        Returns:
          dict of [B, J + 1, max(D + 1, D_bg)]: "loc", "scale", "kl".
        """
        size = max(self.config.appearance_size + 1, self.config.background_size)

        def join(of_objects, of_background, fill):
            of_objects = _padded(of_objects, size, fill)
            of_background = _padded(of_background, size, fill)
            return tf.concat([of_objects, of_background[:, None]], axis=1)

        return {
            "loc": join(objects.loc, background.loc, 0.0),
            "scale": join(objects.scale, background.scale, 1.0),
            "kl": join(kl_objects, kl_background, 0.0),
        }


def with_background(x, value):
    """Appends a slot of constant `value` to [B, J, ...]: [B, J + 1, ...]."""
    return tf.concat([x, tf.fill(tf.shape(x[:, :1]), value)], axis=1)


def with_unseen_object(slots):
    """Prepends an object far outside of the frame to slots [B, K, S]: [B, K + 1, S].

    Convolutions over objects need at least one.
    """
    unseen = tf.zeros_like(slots[:, :1]) + tf.constant(OUTSIDE)
    return tf.concat([unseen, slots], axis=1)


def _padded(x, size, value=0.0):
    """Pads the last axis to `size`."""
    paddings = [[0, 0]] * (x.shape.rank - 1) + [[0, size - x.shape[-1]]]
    return tf.pad(x, paddings, constant_values=value)
