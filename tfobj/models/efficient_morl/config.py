"""Settings of EfficientMORL (Emami et al. 2021)."""

import dataclasses
import math
from typing import Literal

from tfobj.config import NonNegative, NonNegativeInt, Positive, PositiveInt, require
from tfobj.inference.gaussian_error import EASY_ERROR, gaussian_floor, mean_squared_error_at
from tfobj.inference.schedules import check_schedule
from tfobj.models.settings import SceneConfig

FURTHEST_BELOW = 0.1
"""How far GECO targets may lie below the least NLL, in nats per pixel and channel.

The published target for Tetrominoes does so by 0.02.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EfficientMORLConfig(SceneConfig):
    """EfficientMORL. Defaults: the paper's Tetrominoes model (Emami 2021, appendix F).

    That model has 467,236 parameters.
    """

    image_size: tuple[PositiveInt, PositiveInt] = (35, 35)
    channels: int = 3
    num_slots: int = 4
    num_steps: int = 3
    """Refinement steps I; with a curriculum, those at the start of training. 0: layers alone."""
    curriculum: tuple[tuple[int, int], ...] = ()
    """Pairs (step, I): refinement steps in training from that many updates on."""
    num_layers: NonNegativeInt = 3
    """L, stochastic layers."""
    latent_size: PositiveInt = 32
    encoder_channels: tuple[PositiveInt, ...] = (64, 64, 64, 64)
    encoder_kernels: tuple[PositiveInt, ...] = (5,)
    encoder_strides: tuple[PositiveInt, ...] = (1,)
    decoder: Literal["iodine", "small", "big"] = "small"
    decoder_channels: tuple[PositiveInt, ...] = ()
    """Channels of the hidden layers; empty: those of the paper."""
    decoder_pixel_shuffle: PositiveInt = 1
    """Above 1 (ours): the decoder runs at 1 / r of the resolution, r x r pixels per position."""
    decoder_coarse_masks: bool = False
    """With a pixel shuffle (ours): one mask logit per position, enlarged bilinearly, so that masks
    cannot follow single pixels."""
    dual_gru: bool = True
    """False: the ablation with one GRU of width 2 D (Table 2)."""
    prior: Literal["bottom_up", "reversed", "reversed++"] = "reversed++"
    likelihood: Literal["gaussian", "mixture"] = "gaussian"
    """Likelihood of the image given all slots: normal around the mixed mean (Eq. 12), or a mixture
    (Eq. 13). Both leave out 1/2 ln 2 pi."""
    likelihood_scale: Positive = 0.3
    """Standard deviation, image in [0, 1]."""
    mixture_reduce: Literal["channel", "pixel"] = "channel"
    """Whether each colour channel of a pixel has a mixture of its own (Eq. 13 and released code) or
    all channels share one."""
    kl_weight: NonNegative = 1.0
    refinement_weighting: Literal["eq8", "released"] = "eq8"
    """Weights of the losses L_r; "released": (I + 3 - r) / (I + 1), apparently a slip in operator
    precedence."""
    geco_target: float | None = None
    """Bound on the NLL in nats per pixel and channel; none: no GECO. The published -1.224 on
    Tetrominoes lies below the least value of the NLL, so that the multiplier grows for ever, which
    anneals the likelihood's scale."""
    geco_acceleration: Positive = 1.0
    """How much faster the multiplier decays while the constraint holds."""
    geco_warm_steps: NonNegativeInt = 1_000
    """Updates before the multiplier moves (released code)."""
    initial_gain: Positive = 0.02
    """Gain of all initial values except those of the GRUs and the encoder's position embedding
    (released code)."""

    early_names = ("num_slots", "num_steps", "likelihood_scale", "kl_weight")

    @property
    def minimum_steps(self):
        """Least number of refinement steps: without layers, only refinement sees the image."""
        return 0 if self.num_layers else 1

    @property
    def slot_size(self):
        """D."""
        return self.latent_size

    def __post_init__(self):
        super().__post_init__()
        check_schedule(self.num_steps, self.curriculum, "model.curriculum", self.minimum_steps)

        floor = gaussian_floor(self.likelihood_scale, with_constant=False)
        lowest = floor - FURTHEST_BELOW
        require(
            self.geco_target is None or lowest <= self.geco_target < math.inf,
            "model.geco_target",
            f"finite and within reach, at least {lowest:.4g} (a perfect reconstruction at "
            f"likelihood_scale = {self.likelihood_scale:g} has {floor:.4g}), or none",
            self.geco_target,
        )

    def warnings(self):
        if self.geco_target is None:
            return []

        floor = gaussian_floor(self.likelihood_scale, with_constant=False)
        error = mean_squared_error_at(self.geco_target, self.likelihood_scale, with_constant=False)
        if error > EASY_ERROR:
            return [
                f"model.geco_target={self.geco_target:g} asks for a mean squared error of "
                f"{error:.2g} only: an image of one colour may do. "
                f"A perfect reconstruction has {floor:.4g}."
            ]
        if error < 0.0:
            return [
                f"model.geco_target={self.geco_target:g} is below the least negative log "
                f"likelihood of a perfect reconstruction, ln {self.likelihood_scale:g} = "
                f"{floor:.4g}: the weight of the likelihood will grow for as long as the run lasts "
                "(as in the published Tetrominoes run)."
            ]
        return []
