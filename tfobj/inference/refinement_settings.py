"""The inputs of a refinement network and their settings; `refinement_inputs` computes them."""

import dataclasses
from typing import Literal

from tfobj.config import Config, NonNegative, Positive
from tfobj.errors import unknown_name

SHARED = ("image", "pixel_likelihood", "coordinates")
PER_SLOT = (
    "means",
    "mask",
    "mask_logits",
    "mask_posterior",
    "means_gradient",
    "mask_gradient",
    "leave_one_out",
)
SPATIAL = SHARED + PER_SLOT
FLAT = ("posterior", "posterior_gradient")
NORMALISED = (
    "means_gradient",
    "mask_gradient",
    "pixel_likelihood",
    "leave_one_out",
    "posterior_gradient",
)
"""Inputs with layer norm and stopped gradients by default (paper and released code agree)."""
DECODED = (*PER_SLOT, "pixel_likelihood", "posterior_gradient")
"""Inputs that depend on the decoder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefinementInputsConfig(Config):
    """One switch per input, and how inputs are made.

    The defaults are the paper's, as the released code reads it. Where the two differ, the mask
    gradient is taken with respect to the logits (bounded by 1, no division by the mask) and
    likelihoods enter as logarithms; `mask_gradient_of` and `likelihoods` select the paper's literal
    text. The mask posterior is the paper's; `mask_posterior_epsilon` selects that of the released
    code.
    """

    prefix = "model.inputs."

    image: bool = True
    means: bool = True
    mask: bool = True
    mask_logits: bool = True
    mask_posterior: bool = True
    means_gradient: bool = True
    mask_gradient: bool = True
    pixel_likelihood: bool = True
    leave_one_out: bool = True
    coordinates: bool = True
    posterior: bool = True
    posterior_gradient: bool = True
    layer_norm: tuple[str, ...] = NORMALISED
    """Names of the inputs that are layer-normalised."""
    stop_gradient: tuple[str, ...] = NORMALISED
    """Names of the inputs through which no gradient flows back."""
    coordinate_type: Literal["linear", "cosine"] = "linear"
    """Two channels from -1 to 1, or eight of cosines (released code on sprites)."""
    mask_gradient_of: Literal["logits", "masks"] = "logits"
    """Whether the mask gradient is that of the mask logits or, the paper's text, of the masks."""
    likelihoods: Literal["log", "probability"] = "log"
    """Whether likelihoods enter as logarithms or, the paper's text, as probabilities."""
    mask_posterior_epsilon: NonNegative = 0.0
    """Added to the sum in the mask posterior, p_k / (sum_j p_j + epsilon), where p_k is the density
    of a pixel under slot k. 0 in the paper, a softmax of log p_k; 1e-6 in the released code, where
    it vanishes for pixels that every slot explains badly (15 to 39 % early in training)."""
    legacy_constants: bool = False
    """Adds the constant 0.5 channel (image-shaped and flat) of the released code."""
    gradient_scale: Positive = 1.0
    """Multiplies gradients of the per-scene loss; 1 / (batch of one GPU) in the released code."""

    def __post_init__(self):
        super().__post_init__()
        for field in ("layer_norm", "stop_gradient"):
            for name in getattr(self, field):
                if name not in SPATIAL + FLAT:
                    raise unknown_name(f"refinement input in `{field}`:", name, SPATIAL + FLAT)

    def enabled(self, names):
        """Returns those of `names` that are switched on, in the same order."""
        return [name for name in names if getattr(self, name)]

    def decoder_is_stopped(self):
        """Returns whether gradients reach the decoder through the likelihood alone."""
        return set(self.enabled(DECODED)) <= set(self.stop_gradient)
