"""Variational autoencoders with one latent vector per scene, baselines without objects.

They are those of Greff et al. 2019 and Anciukevicius et al. 2020.
"""

from tfobj import lazy
from tfobj.models.vae.config import VAEConfig
from tfobj.models.vae.presets import PRESETS

__all__ = ["PRESETS", "VAE", "VAEConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"VAE": "model"})
