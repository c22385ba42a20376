"""Multi-layer perceptrons."""

import keras

from tfobj.nn.layers import Dense, own_initializer


@keras.saving.register_keras_serializable("tfobj")
class MLP(keras.layers.Layer):
    """Dense layers of `sizes` over the last axis, `activation` after all but, with `linear_output`, the last."""

    def __init__(
        self,
        sizes,
        *,
        activation="relu",
        linear_output=True,
        initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.stages = [
            Dense(
                size,
                activation=None if linear_output and i == len(sizes) - 1 else activation,
                kernel_initializer=own_initializer(initializer),
                dtype=self.dtype_policy,
                name=f"dense_{i}",
            )
            for i, size in enumerate(sizes)
        ]

    def build(self, input_shape):
        for stage in self.stages:
            stage.build(input_shape)
            input_shape = (*input_shape[:-1], stage.units)
        self.built = True

    def call(self, x):
        for stage in self.stages:
            x = stage(x)
        return x
