"""Slot MLP autoencoder, the ordered-slot baseline of Locatello et al. 2020."""

from tfobj.models.slot_mlp.config import SlotMLPConfig
from tfobj.models.slot_mlp.model import SlotMLPAutoencoder
from tfobj.models.slot_mlp.presets import PRESETS

__all__ = ["PRESETS", "SlotMLPAutoencoder", "SlotMLPConfig"]
