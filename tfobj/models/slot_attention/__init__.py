"""Slot Attention autoencoder (Locatello et al. 2020)."""

from tfobj import lazy
from tfobj.models.slot_attention.config import SlotAttentionConfig
from tfobj.models.slot_attention.presets import PRESETS

__all__ = ["PRESETS", "SlotAttentionAutoencoder", "SlotAttentionConfig"]

__getattr__, __dir__ = lazy.names(__name__, {"SlotAttentionAutoencoder": "model"})
