"""The two structures that every room of the package speaks: `SceneBatch` in, `SceneOutputs` out.

Axes, one letter one meaning everywhere: B batch, T frames, R refinement steps, L stochastic layers,
K slots, N true objects (0 = background), H W C image, D latent. Order [B, T, R, K, H, W, C], absent
axes dropped. Images are float32 in [0, 1], channels last.
"""

from typing import Any, NamedTuple, TypedDict

from tfobj.errors import UserError

IGNORE_LABEL = 255
"""Mask value of pixels that no metric counts."""


class SceneBatch(TypedDict, total=False):
    """One batch of scenes. A plain dict at run time, so tf.data, tf.distribute and Keras take it as it is."""

    image: Any
    """[B, (T,) H, W, C] float32 in [0, 1]."""
    mask: Any
    """[B, (T,) H, W] uint8 instance ids; 0 = background, `IGNORE_LABEL` = not scored. Absent without labels."""
    amodal_masks: Any
    """[B, N, H, W] uint8 in {0, 1}, full extent of every object, hidden parts included; ones for the background. In evaluation only."""
    depth: Any
    """[B, N] float32, smaller is nearer; only the order counts. In evaluation only."""
    visibility: Any
    """[B, N] float32, 1 where the entity exists."""
    factors: Any
    """dict: factor name -> [B, N, ...]."""


class SceneOutputs(NamedTuple):
    """What every model returns; losses, metrics, export and figures read only this.

    `masks` sum to one over K. Entries of `loss_terms` are per scene, [B], in the unit that their name
    says (nats summed over pixels, channels and latents unless it says otherwise).
    """

    recon: Any
    """[B, (T,) H, W, C], composed image in [0, 1] units (not clipped)."""
    masks: Any
    """[B, (T,) K, H, W, 1], share of every slot in every pixel."""
    slot_recons: Any
    """[B, (T,) K, H, W, C], appearance of every slot before masking."""
    slots: Any
    """[B, (T,) K, D], posterior mean or slot vector."""
    posterior: dict | None = None
    """Parameters of q(z|x), e.g. {"loc": [B, K, D], "scale": [B, K, D]}; None for deterministic models."""
    loss_terms: dict = {}
    """name -> [B]."""
    history: dict | None = None
    """On request: name -> [B, R, ...], one entry per refinement step or attention iteration."""
    amodal_masks: Any = None
    """[B, K, H, W, 1] in [0, 1], full extent of every slot, hidden parts included; models with depth only. Ones for a background slot."""
    depths: Any = None
    """[B, K], smaller is nearer; models with depth only."""
    positions: Any = None
    """[B, K, 2] float32, row and column of every slot's centre in pixels; models that place their objects only."""
    statistics: dict = {}
    """In training: name -> tensor, means over the batch that the model's own state follows (moments of batch norms)."""

    def extents(self):
        """Returns {name: tensor} of `amodal_masks`, `depths` and `positions`, as far as the model knows them."""
        return {
            name: value
            for name in ("amodal_masks", "depths", "positions")
            if (value := getattr(self, name)) is not None
        }


def check_outputs(outputs, image):
    """Checks the static shapes of `outputs` against `image` [B, (T,) H, W, C]; called once per trace.

    Raises:
      ValueError: names the field, the expected and the received shape.
    """
    *lead, height, width, channels = image.shape
    lead, space = tuple(lead), (height, width)
    expected = {
        "recon": lead + space + (channels,),
        "masks": lead + (None,) + space + (1,),
        "slot_recons": lead + (None,) + space + (channels,),
    }
    for name, want in expected.items():
        got = tuple(getattr(outputs, name).shape)
        if len(got) != len(want) or any(
            w is not None and g is not None and w != g for w, g in zip(want, got, strict=True)
        ):
            raise ValueError(f"`SceneOutputs.{name}` must have shape {want}. Received: {got}.")
    for name, term in outputs.loss_terms.items():
        if len(term.shape) != 1:
            raise ValueError(
                f"`SceneOutputs.loss_terms[{name!r}]` must have shape [B]. Received: {tuple(term.shape)}."
            )


def check_num_slots(num_slots, minimum=2):
    """Raises `UserError` unless `num_slots` is a tensor or an integer of at least `minimum`."""
    if isinstance(num_slots, int) and num_slots < minimum:
        raise UserError(f"`num_slots` must be at least {minimum}. Received: num_slots={num_slots}.")


def check_num_steps(num_steps, minimum=1):
    """Raises `UserError` unless `num_steps` is a tensor or an integer of at least `minimum`."""
    if isinstance(num_steps, int) and num_steps < minimum:
        raise UserError(f"`num_steps` must be at least {minimum}. Received: num_steps={num_steps}.")
