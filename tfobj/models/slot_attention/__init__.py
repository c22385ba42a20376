"""Slot Attention autoencoder (Locatello et al. 2020)."""

from tfobj.models.slot_attention.config import SlotAttentionConfig
from tfobj.models.slot_attention.model import SlotAttentionAutoencoder
from tfobj.models.slot_attention.presets import PRESETS

__all__ = ["PRESETS", "SlotAttentionAutoencoder", "SlotAttentionConfig"]
