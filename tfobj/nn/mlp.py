"""Multi-layer perceptrons."""

import keras

from tfobj.nn.layers import Dense, own_initializer


@keras.saving.register_keras_serializable("tfobj")
class MLP(keras.layers.Layer):
    """Dense layers of `sizes` over the last axis.

    Args:
      sizes: units of every layer.
      activation: Keras name, applied after every layer but the last if `linear_output`.
      linear_output: see `activation`.
      initializer: of the kernels; every layer draws its own values.
    """

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
        activations = [activation] * len(sizes)
        if linear_output and activations:
            activations[-1] = None

        self.stages = [
            Dense(
                size,
                activation=activations[i],
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
