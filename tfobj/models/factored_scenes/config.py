"""Settings of the factored scenes of Anciukevicius et al. 2020."""

import dataclasses
import math
from typing import Annotated, Literal

from tfobj.config import Bounds, NonNegative, NonNegativeInt, Positive, PositiveInt, require
from tfobj.distributions.orderings import LEAST_SOFTRAS_TEMPERATURE, Ordering
from tfobj.models.settings import SceneConfig

Probability = Annotated[float, Bounds(above=0, below=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactoredScenesConfig(SceneConfig):
    """Factored scenes. Defaults: overlapping-polygons at 64 x 64 (Anciukevicius 2020, Table 5).

    `num_steps` must be 1.
    """

    image_size: tuple[PositiveInt, PositiveInt] = (64, 64)
    channels: int = 3
    num_slots: int = 3
    """J objects and the background."""
    num_steps: int = 1
    canvas_size: PositiveInt = 24
    """M: side of an object's canvas in pixels, a multiple of 4 (8 for the residual decoder)."""
    appearance_size: PositiveInt = 6
    """D of an object. It is small on purpose: a rich appearance would model the visible part
    instead of the object."""
    background_size: PositiveInt = 2
    features: Literal["global", "attentive", "both"] = "global"
    """Input of the object encoders: the image, or a crop around each position. Attention helps on
    multi-dSprites and hinders on CLEVR (paper). "both" (ours) adds the outputs of two encoders: the
    image tells slots apart from the start, the crop learns outlines in half the steps."""
    position_channels: tuple[PositiveInt, ...] = (48, 64, 96, 128)
    """Channels of the U-Net."""
    position_stride: PositiveInt = 1
    """Above 1 (ours): the U-Net runs at 1 / r of the resolution, and its logits are enlarged
    bilinearly."""
    encoder_channels: tuple[PositiveInt, ...] = (16, 32, 64, 128, 256, 512, 1024, 2048)
    """Channels of the encoder of images."""
    crop_encoder_filters: PositiveInt = 32
    """Channels of the first layer of the encoder of crops."""
    background_encoder_channels: tuple[PositiveInt, ...] = (16, 32, 48, 64, 96)
    background_encoder_hidden: PositiveInt = 128
    background: Literal["convolutional", "uniform"] = "convolutional"
    """How the background is decoded: images of 16 numbers on a grid of 32 pixels, or one colour
    (ours). Where objects keep to the middle, the former first learns their mean image, and objects
    learn to keep out of it."""
    initial_background: Probability = 0.5
    """Brightness of the background before training; 0.5 is that of zero biases. While the
    background is much too bright, objects learn to be black."""
    norm: Literal["batch", "group", "none"] = "batch"
    """Norm of the image encoder and the background encoder. With "batch", scenes of a batch see
    each other in training."""
    decoder: Literal["transposed", "residual"] = "transposed"
    """Object decoder of CLEVR and polygons, or of multi-dSprites."""
    decoder_hidden: PositiveInt = 128
    decoder_filters: tuple[PositiveInt, ...] = (30, 128, 64, 32)
    """Channels of the transposed decoder, from the first map on."""
    residual_decoder_filters: PositiveInt = 32
    initial_alpha: Probability = 0.5
    """Alpha of canvases before training; 0.5 is that of zero biases. Objects that are faint at
    first do not hide each other while none has an appearance yet."""
    ordering: Ordering = "soft_over"
    """Soft depth order of objects in training; the paper follows Liu et al. 2019 and gives no
    formula."""
    depth_temperature: Positive = 0.1
    """gamma."""
    final_depth_temperature: Positive | None = None
    """Value that gamma falls to geometrically over `depth_anneal_steps`."""
    depth_anneal_steps: PositiveInt = 1
    position_temperature: Positive = 0.3
    """tau of the Gumbel-Softmax."""
    position_temperature_doubling_steps: Positive = 9e6
    """tau grows as 2 ** (step / this): 0.3 * 2 ** (0.0001 epoch), 900 steps an epoch (paper)."""
    first_position_temperature: Positive | None = None
    """Value that tau falls from geometrically over `position_anneal_steps`."""
    position_anneal_steps: PositiveInt = 1
    premultiplied: bool = False
    """Place alpha x instead of x: a position spread over several pixels then blurs colours but does
    not dim them."""
    likelihood_scale: Positive = 0.01 / math.sqrt(3)
    """sigma, image in [0, 1]."""
    later_scale: Positive | None = 0.01 / math.sqrt(5)
    """sigma from `later_scale_from_step` on; none: sigma stays. Scores outside training always use
    the last sigma."""
    later_scale_from_step: NonNegativeInt = 135_000
    """The default is 150 epochs."""
    beta_appearance: NonNegative = 100.0
    """Weight of the KL of appearances. The paper gives no weights. With sigma this small, the KL
    would be 0.02 % of the loss at 1; beta sigma^2 = 1 / 300 acts like beta = 1 at sigma 0.058."""
    beta_depth: NonNegative = 100.0
    beta_background: NonNegative = 100.0
    position_penalty: Literal["batch", "moving"] = "batch"
    """Whose positions should be uniform: those of the current batch (paper; of the part that one
    device processes at a time), or a moving average over batches, whose gradient is exact for any
    split of the batch and does not saturate at 2 (1 - B J / pixels)."""
    position_penalty_weight: NonNegative = 1e3
    """lambda, nats; the paper gives none."""
    position_penalty_cell: PositiveInt = 1
    """Side of the squares of pixels in which positions are counted; the paper counts pixels."""
    alpha_entropy_weight: NonNegative = 0.0
    """Weight of the mean binary entropy of alpha, nats: pushes alphas to 0 and 1 (the sign that the
    paper's Fig. 14 means)."""
    alpha_area_weight: NonNegative = 0.0
    """Nats per pixel of alpha, summed over objects (ours): prefers the explanation with smaller
    objects. On black backgrounds, opaque black rims of canvases cost nothing else."""
    scene_prior: bool = True
    """False: the paper's ablation; z, d~ ~ N(0, I), positions uniform."""
    scene_from_step: PositiveInt = 441_000
    """From here on, the object level is frozen and the scene level is trained; the default leaves
    it the last 10 of 500 epochs."""
    scene_code_size: Annotated[int, Bounds(low=2)] = 16
    scene_units: PositiveInt = 128
    scene_filters: tuple[PositiveInt, ...] = (64, 32, 32, 16)
    scene_kl_weight: NonNegative = 0.01
    position_target_blur: NonNegative = 0.0
    """Standard deviation in pixels of the blur of the scene level's target positions; 1 trains it
    better, 0 is the likelihood."""

    early_names = ("beta_appearance", "beta_depth", "beta_background")

    @property
    def num_objects(self):
        """J."""
        return self.num_slots - 1

    @property
    def slot_size(self):
        """S: length of a slot's vector."""
        return max(self.appearance_size + 3, self.background_size)

    def __post_init__(self):
        super().__post_init__()
        require(
            self.num_steps == 1,
            "model.num_steps",
            "1: factored_scenes has no iterations",
            self.num_steps,
        )
        self._check_canvas()
        self._check_layers()
        if self.ordering != "soft_over":
            self._check_softras()

    def _check_canvas(self):
        multiple = 8 if self.decoder == "residual" else 4
        require(
            self.canvas_size % multiple == 0,
            "model.canvas_size",
            f"a multiple of {multiple}",
            self.canvas_size,
        )

        shorter = min(self.image_size)
        require(
            self.canvas_size <= shorter,
            "model.canvas_size",
            f"at most the shorter side of the image, {shorter}",
            self.canvas_size,
        )

    def _check_layers(self):
        for name in ("decoder_filters", "scene_filters"):
            value = getattr(self, name)
            require(len(value) == 4, f"model.{name}", "four numbers", value)
        for name in ("position_channels", "encoder_channels", "background_encoder_channels"):
            value = getattr(self, name)
            require(len(value) > 0, f"model.{name}", "one number per layer", value)

    def _check_softras(self):
        least = LEAST_SOFTRAS_TEMPERATURE
        for name in ("depth_temperature", "final_depth_temperature"):
            value = getattr(self, name)
            require(
                value is None or value >= least,
                f"model.{name}",
                f"at least {least} with model.ordering={self.ordering}",
                value,
            )
