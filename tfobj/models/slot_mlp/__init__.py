"""Slot MLP autoencoder, the ordered-slot baseline of Locatello et al. 2020."""

from tfobj import lazy
from tfobj.models.slot_mlp.config import SlotMLPConfig
from tfobj.models.slot_mlp.presets import PRESETS

__all__ = ["PRESETS", "SlotMLPAutoencoder", "SlotMLPConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"SlotMLPAutoencoder": "model"})
