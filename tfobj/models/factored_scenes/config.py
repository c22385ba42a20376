"""Settings of the factored scenes of Anciukevicius et al. 2020."""

import dataclasses
import math
from typing import Literal

from tfobj.config import require
from tfobj.distributions import compositing
from tfobj.models.base import SceneConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactoredScenesConfig(SceneConfig):
    """Factored scenes. Defaults: overlapping-polygons at 64 x 64 (Anciukevicius 2020, Table 5); `num_steps` must be 1."""

    image_size: tuple[int, int] = (64, 64)
    channels: int = 3
    num_slots: int = 3
    """J objects and the background."""
    num_steps: int = 1
    canvas_size: int = 24
    """M: side of an object's canvas in pixels, a multiple of 4 (8 for the residual decoder)."""
    appearance_size: int = 6
    """D of an object. Few: a rich appearance would model the visible part instead of the object."""
    background_size: int = 2
    features: Literal["global", "attentive", "both"] = "global"
    """What the object encoders read: the image, or a crop around each position. Attention helps on multi-dSprites and hinders on CLEVR (paper).
    "both" (ours) adds the outputs of two encoders: the image tells slots apart from the start, the crop learns outlines in half the steps."""
    position_channels: tuple[int, ...] = (48, 64, 96, 128)
    """Of the U-Net."""
    position_stride: int = 1
    """Above 1 (ours): the U-Net runs at 1 / r of the resolution, and its logits are enlarged bilinearly."""
    encoder_channels: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024, 2048)
    """Of the encoder of images."""
    crop_encoder_filters: int = 32
    """Of the encoder of crops."""
    background_encoder_channels: tuple[int, ...] = (16, 32, 48, 64, 96)
    background_encoder_hidden: int = 128
    background: Literal["convolutional", "uniform"] = "convolutional"
    """What the background can be: pictures of 16 numbers on a grid of 32 pixels, or one colour (ours). Where objects keep to the middle, the former
    first learns their mean picture, and objects learn to keep out of it."""
    initial_background: float = 0.5
    """Brightness of the background before training; 0.5 is that of zero biases. While the background is much too bright, objects learn to be black."""
    norm: Literal["batch", "group", "none"] = "batch"
    """Of "global" and background encoder. With "batch", scenes of a batch see each other in training."""
    decoder: Literal["transposed", "residual"] = "transposed"
    """Object decoder of CLEVR and polygons, or of multi-dSprites."""
    decoder_hidden: int = 128
    decoder_filters: tuple[int, ...] = (30, 128, 64, 32)
    """Of the transposed decoder, from the first map on."""
    residual_decoder_filters: int = 32
    initial_alpha: float = 0.5
    """Alpha of canvases before training; 0.5 is that of zero biases. Objects that are faint at first do not hide each other while none can draw yet."""
    ordering: compositing.Ordering = "soft_over"
    """Of objects in training; the paper's is "after Liu et al. 2019", without a formula."""
    depth_temperature: float = 0.1
    """gamma."""
    final_depth_temperature: float | None = None
    """gamma falls to it geometrically over `depth_anneal_steps`."""
    depth_anneal_steps: int = 1
    position_temperature: float = 0.3
    """tau of the Gumbel-Softmax."""
    position_temperature_doubling_steps: float = 9e6
    """tau grows as 2 ** (step / this): 0.3 * 2 ** (0.0001 epoch), 900 steps an epoch (paper)."""
    first_position_temperature: float | None = None
    """tau falls from it geometrically over `position_anneal_steps`."""
    position_anneal_steps: int = 1
    premultiplied: bool = False
    """Place alpha x instead of x: a position spread over several pixels then blurs colours but does not dim them."""
    likelihood_scale: float = 0.01 / math.sqrt(3)
    """sigma, image in [0, 1]."""
    later_scale: float | None = 0.01 / math.sqrt(5)
    """sigma from `later_scale_from_step` on; none: it stays. Scores outside training are always under the last one."""
    later_scale_from_step: int = 135_000
    """150 epochs."""
    beta_appearance: float = 100.0
    """The paper gives no weights. With sigma this small the KL would be 0.02 % of the loss at 1; beta sigma^2 = 1 / 300 acts like beta = 1 at sigma 0.058."""
    beta_depth: float = 100.0
    beta_background: float = 100.0
    position_penalty: Literal["batch", "moving"] = "batch"
    """Whose positions should be uniform: those of the batch at hand (paper; of the part that one device works on at a time), or a moving average
    over batches, whose gradient is exact for any split of the batch and does not saturate at 2 (1 - B J / pixels)."""
    position_penalty_weight: float = 1e3
    """lambda, nats; the paper gives none."""
    position_penalty_cell: int = 1
    """Side of the squares of pixels that positions are counted in; the paper counts pixels."""
    alpha_entropy_weight: float = 0.0
    """Weight of the mean binary entropy of alpha, nats: pushes alphas to 0 and 1 (the sign that the paper's Fig. 14 means)."""
    alpha_area_weight: float = 0.0
    """Nats per pixel of alpha, summed over objects (ours): of explanations alike, the one with smaller objects. Where backgrounds are black, opaque black
    rims of canvases cost nothing else."""
    scene_prior: bool = True
    """False: the paper's ablation; z, d~ ~ N(0, I), positions uniform."""
    scene_from_step: int = 441_000
    """The object level rests from here on, and the scene level is trained: the last 10 of 500 epochs."""
    scene_code_size: int = 16
    scene_units: int = 128
    scene_filters: tuple[int, ...] = (64, 32, 32, 16)
    scene_kl_weight: float = 0.01
    position_target_blur: float = 0.0
    """Standard deviation in pixels that the scene level's target positions are blurred with; 1 trains it better, 0 is the likelihood."""

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_steps == 1,
            "model.num_steps",
            "1: factored_scenes has no iterations",
            self.num_steps,
        )
        multiple = 8 if self.decoder == "residual" else 4
        require(
            self.canvas_size >= multiple and self.canvas_size % multiple == 0,
            "model.canvas_size",
            f"a multiple of {multiple}",
            self.canvas_size,
        )
        require(
            self.canvas_size <= min(self.image_size),
            "model.canvas_size",
            f"at most the shorter side of the image, {min(self.image_size)}",
            self.canvas_size,
        )
        require(
            len(self.decoder_filters) == 4,
            "model.decoder_filters",
            "four numbers",
            self.decoder_filters,
        )
        require(
            len(self.scene_filters) == 4, "model.scene_filters", "four numbers", self.scene_filters
        )
        for name in ("position_channels", "encoder_channels", "background_encoder_channels"):
            require(
                len(getattr(self, name)) > 0,
                f"model.{name}",
                "one number per layer",
                getattr(self, name),
            )
        for name in (
            "depth_temperature",
            "final_depth_temperature",
            "position_temperature",
            "first_position_temperature",
            "likelihood_scale",
            "later_scale",
            "position_temperature_doubling_steps",
        ):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"model.{name}", "positive", value)
        for name in (
            "appearance_size",
            "background_size",
            "position_stride",
            "depth_anneal_steps",
            "position_anneal_steps",
            "position_penalty_cell",
            "scene_from_step",
        ):
            require(getattr(self, name) >= 1, f"model.{name}", "at least 1", getattr(self, name))
        require(
            self.scene_code_size >= 2, "model.scene_code_size", "at least 2", self.scene_code_size
        )
        if self.ordering != "soft_over":
            least = compositing.LEAST_SOFTRAS_TEMPERATURE
            for name in ("depth_temperature", "final_depth_temperature"):
                value = getattr(self, name)
                require(
                    value is None or value >= least,
                    f"model.{name}",
                    f"at least {least} with model.ordering={self.ordering}",
                    value,
                )
        for name in ("initial_alpha", "initial_background"):
            require(
                0 < getattr(self, name) < 1, f"model.{name}", "between 0 and 1", getattr(self, name)
            )
        for name in (
            "beta_appearance",
            "beta_depth",
            "beta_background",
            "position_penalty_weight",
            "alpha_entropy_weight",
            "alpha_area_weight",
            "scene_kl_weight",
            "position_target_blur",
            "later_scale_from_step",
        ):
            require(
                0 <= getattr(self, name) < math.inf,
                f"model.{name}",
                "at least 0",
                getattr(self, name),
            )

    @property
    def num_objects(self):
        """J."""
        return self.num_slots - 1

    @property
    def slot_size(self):
        """S: length of a slot's vector."""
        return max(self.appearance_size + 3, self.background_size)
