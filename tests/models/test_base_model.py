"""Behaviour that all models share, in `models.base`."""

import numpy as np
from conformance import gradients, scenes

from tfobj import registry


def test_weights_that_the_loss_does_not_reach_have_zero_gradients():
    """TensorFlow makes no zeros for Keras variables, so EfficientMORL with 0 steps had failed."""
    model_class = registry.model_class("efficient_morl")
    config = model_class.config_class().override(
        {
            "image_size": (10, 12),
            "num_slots": 2,
            "num_steps": 0,
            "num_layers": 1,
            "latent_size": 4,
            "encoder_channels": (4,),
            "encoder_kernels": (3,),
            "decoder_channels": (4, 4, 4),
        }
    )
    model = model_class(config)
    _, _, found = gradients(model, scenes(config, batch=2), compiled=False)

    by_path = {v.path: np.asarray(g) for v, g in zip(model.trainable_variables, found, strict=True)}
    refinement = [g for path, g in by_path.items() if "/refinement/" in path]
    assert refinement and not any(g.any() for g in refinement)
    assert any(g.any() for path, g in by_path.items() if "/decoder/" in path)
