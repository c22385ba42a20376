"""Settings of IODINE."""

import dataclasses
from typing import Literal

from tfobj.config import NonNegativeInt, Positive, PositiveInt, require
from tfobj.inference.refinement_settings import FLAT, SPATIAL, RefinementInputsConfig
from tfobj.models.settings import SceneConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class IodineConfig(SceneConfig):
    """IODINE. Defaults: the paper's Tetris model (Greff 2019, Table 8), 193,104 parameters."""

    image_size: tuple[PositiveInt, PositiveInt] = (35, 35)
    channels: int = 3
    num_slots: int = 4
    num_steps: int = 5
    """R, refinement steps."""
    latent_size: PositiveInt = 32
    decoder: Literal["broadcast", "deconv"] = "broadcast"
    """"deconv" is the ablation of appendix C: an MLP to 8 x 8, then transposed convolutions."""
    decoder_channels: tuple[PositiveInt, ...] = (32, 32, 32, 32)
    decoder_kernel: PositiveInt = 5
    decoder_pixel_shuffle: PositiveInt = 1
    """Above 1 (ours), the decoder runs at 1 / r of the resolution, and its last layer yields r x r
    pixels per position."""
    decoder_coarse_masks: bool = False
    """With a pixel shuffle (ours): one mask logit per position, enlarged bilinearly, so that masks
    cannot follow single pixels."""
    refinement_channels: tuple[PositiveInt, ...] = (32, 32, 32)
    refinement_kernel: PositiveInt = 5
    refinement_mlp: tuple[PositiveInt, ...] = (128,)
    refinement_mlp_linear_output: bool = False
    lstm_size: NonNegativeInt = 0
    """Units of the refinement LSTM; 0 for none (Tetris)."""
    likelihood: Literal["normal", "logistic"] = "normal"
    """Density of a colour given its slot: normal in the paper, logistic in the released code."""
    likelihood_scale: Positive = 0.1
    """Standard deviation of the normal (0.1, paper) or scale of the logistic (0.03, released code),
    for images in [0, 1]."""
    likelihood_weight: Positive = 1.0
    """beta, the weight of the likelihood relative to the KL divergence: 1 in the paper, 10 in the
    experiments of Zablotskaia et al. 2020 on balls."""
    prior_variance: Positive = 1.0
    """1 in the paper; ln 2 in the released code, apparently by mistake."""
    initial_posterior: Literal["trained", "prior"] = "trained"
    """What refinement starts from: a trained vector, the same for all slots, or the prior."""
    loss_weights: Literal["linear", "constant", "list"] = "linear"
    """Weights of the losses of the R + 1 decodes: r / R, all 1, or `loss_weight_list`."""
    loss_weight_list: tuple[float, ...] = ()
    """R + 1 weights."""
    latent_constant: bool = False
    """Appends the constant 5.0 to every latent (released code)."""
    inputs: RefinementInputsConfig = RefinementInputsConfig()

    early_names = ("num_slots", "num_steps", "likelihood_scale", "likelihood_weight")

    @property
    def slot_size(self):
        """D, the size of a latent."""
        return self.latent_size

    def __post_init__(self):
        super().__post_init__()
        require(
            self.inputs.enabled(SPATIAL), "model.inputs", "a set with an image-shaped input", ()
        )
        require(
            self.inputs.enabled(FLAT),
            "model.inputs",
            "a set with posterior or posterior_gradient",
            (),
        )
