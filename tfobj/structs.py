"""The two structures that all parts of the package exchange: `SceneBatch` in, `SceneOutputs` out.

Axes, one letter with one meaning everywhere: B batch, T frames, R refinement steps, L stochastic
layers, K slots, N true objects (0 = background), H W C image, D latent. Order [B, T, R, K, H, W,
C], absent axes dropped. Images are float32 in [0, 1], channels last.
"""

from typing import Any, NamedTuple, TypedDict

from tfobj.errors import UserError

IGNORE_LABEL = 255
"""Mask value of pixels that no metric counts."""


class SceneBatch(TypedDict, total=False):
    """One batch of scenes.

    A plain dict at run time, so that tf.data, tf.distribute and Keras accept it.
    """

    image: Any
    """[B, (T,) H, W, C] float32 in [0, 1]."""
    mask: Any
    """[B, (T,) H, W] uint8 instance ids; 0 = background, `IGNORE_LABEL` = not scored.

    Absent without labels.
    """
    amodal_masks: Any
    """[B, N, H, W] uint8 in {0, 1}, full extent of every object, including hidden parts.

    Ones for the background. In evaluation only.
    """
    depth: Any
    """[B, N] float32, smaller is nearer; only the order matters. In evaluation only."""
    visibility: Any
    """[B, N] float32, 1 where the entity exists."""
    factors: Any
    """dict: factor name -> [B, N, ...]."""


class SceneOutputs(NamedTuple):
    """The result of every model; losses, metrics, export and figures read nothing else.

    `masks` sum to one over K. Entries of `loss_terms` are per scene, [B], in nats summed over
    pixels, channels and latents unless their name says otherwise.
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
    """Parameters of q(z|x), e.g. {"loc": [B, K, D], "scale": [B, K, D]}.

    None for deterministic models.
    """
    loss_terms: dict = {}
    """name -> [B]."""
    history: dict | None = None
    """On request: name -> [B, R, ...], one entry per refinement step or attention iteration."""
    amodal_masks: Any = None
    """[B, K, H, W, 1] in [0, 1], full extent of every slot, including hidden parts.

    Only of models with depth. Ones for a background slot.
    """
    depths: Any = None
    """[B, K], smaller is nearer; only of models with depth."""
    positions: Any = None
    """[B, K, 2] float32, row and column of every slot's centre in pixels.

    Only of models that place their objects.
    """
    statistics: dict = {}
    """In training: name -> tensor, means over the batch for the model's own state.

    The moments of batch norms, for example.
    """

    def extents(self):
        """Returns those of `amodal_masks`, `depths` and `positions` that the model has, by name."""
        values = {
            "amodal_masks": self.amodal_masks,
            "depths": self.depths,
            "positions": self.positions,
        }
        return {name: value for name, value in values.items() if value is not None}


def check_outputs(outputs, image):
    """Checks the static shapes of `outputs` against `image` [B, (T,) H, W, C], once per trace.

    Raises:
      ValueError: names the field, the expected and the received shape.
    """
    *lead, height, width, channels = image.shape
    expected = {
        "recon": (*lead, height, width, channels),
        "masks": (*lead, None, height, width, 1),
        "slot_recons": (*lead, None, height, width, channels),
    }
    for name, want in expected.items():
        got = tuple(getattr(outputs, name).shape)
        if not _compatible(got, want):
            raise ValueError(f"`SceneOutputs.{name}` must have shape {want}. Received: {got}.")

    for name, term in outputs.loss_terms.items():
        if len(term.shape) != 1:
            raise ValueError(
                f"`SceneOutputs.loss_terms[{name!r}]` must have shape [B]. "
                f"Received: {tuple(term.shape)}."
            )


def _compatible(got, want):
    """Returns whether two shapes agree; None is an unknown size."""
    if len(got) != len(want):
        return False
    return all(g is None or w is None or g == w for g, w in zip(got, want, strict=True))


def check_num_slots(num_slots, minimum=2):
    """Raises `UserError` unless `num_slots` is a tensor or an integer of at least `minimum`."""
    if isinstance(num_slots, int) and num_slots < minimum:
        raise UserError(f"`num_slots` must be at least {minimum}. Received: num_slots={num_slots}.")


def check_num_steps(num_steps, minimum=1):
    """Raises `UserError` unless `num_steps` is a tensor or an integer of at least `minimum`."""
    if isinstance(num_steps, int) and num_steps < minimum:
        raise UserError(f"`num_steps` must be at least {minimum}. Received: num_steps={num_steps}.")
