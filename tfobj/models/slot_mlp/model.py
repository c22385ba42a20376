"""Slot MLP (baseline of Locatello et al. 2020; definition from Emami et al. 2021, section 4.2).

The encoder and the decoder are those of Slot Attention, but a plain MLP maps the tokens to an
*ordered* list of K slots: no competition, no iterations, no noise, K fixed at construction, no
equivariance to permutations. It shows what attention is worth: published fg-ARI about 0.60 on
CLEVR6 and Multi-dSprites, 0.25 on Tetrominoes.

The layer sizes were never published. Ours: max-pool the tokens to 8 x 8, flatten, Dense 512 ReLU
twice, Dense K * D. Without pooling, the first layer alone would have 5e8 weights at 128 x 128.
"""

import keras
import tensorflow as tf

from tfobj.models.slot_attention.model import SlotAutoencoder
from tfobj.models.slot_mlp.config import SlotMLPConfig
from tfobj.nn.mlp import MLP


@keras.saving.register_keras_serializable("tfobj")
class SlotMLPAutoencoder(SlotAutoencoder):
    """Slot MLP autoencoder; see the module's docstring."""

    config_class = SlotMLPConfig
    slots_are_fixed = True
    slots_are_exchangeable = False
    has_steps = False

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.mlp = MLP((*config.hidden, config.num_slots * config.slot_size), name="slots")
        self.build()

    def build_slots(self, map_shape):
        self.map_shape = map_shape
        _, height, width, channels = map_shape
        side = self.config.pooled_grid

        # 35 rows and 8 cells: windows of 5 rows, which leave 7 cells.
        self.window = (-(-height // side), -(-width // side))
        pooled_height = -(-height // self.window[0])
        pooled_width = -(-width // self.window[1])
        self.mlp.build((None, pooled_height * pooled_width * channels))

    def infer(self, tokens, num_slots, num_steps, seed):
        _, height, width, channels = self.map_shape
        feature_map = tf.reshape(tokens, [-1, height, width, channels])
        pooled = tf.nn.max_pool2d(feature_map, self.window, self.window, "SAME")
        pooled = tf.reshape(pooled, [-1, pooled.shape[1] * pooled.shape[2] * channels])

        slots = tf.reshape(self.mlp(pooled), [-1, self.config.num_slots, self.config.slot_size])
        return tf.cast(slots, tf.float32), None
