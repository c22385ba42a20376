"""Variational autoencoders with one latent vector per scene, the baselines of Greff et al. 2019 and Anciukevicius et al. 2020."""

from tfobj.models.vae.model import VAE, VAEConfig
from tfobj.models.vae.presets import PRESETS

__all__ = ["PRESETS", "VAE", "VAEConfig"]
