"""Bouncing balls: hard discs that collide elastically in a square box, 51 frames of 64x64 pixels.

The original program was not published. Its rules were recovered from the animations of Relational N-EM, most of which
the simulation (`elastic_discs`) follows to a tenth of a pixel over 100 frames. Lengths are in box units (the box has a side
of 15, with a curtain 10, and fills the image), x is the column and y the row from the top-left corner.

Start: centres uniform in [2, side - 2]^2, all drawn again while two balls overlap; velocities normal, scaled to
sum_k |v_k|^2 = 1/4. A ball is light (radius 1.2, mass 1) or heavy (radius 1.5, mass 6), with equal chances; behind a
curtain all are light. Of 6 to 8 balls each number is equally likely. Frame 0 is the start.

A pixel belongs to a ball if its centre is nearer to the ball's than the radius; where discs overlap (contacts of three
bodies) to that of the lower number. The curtain is a square of 28 pixels of 64, at a place of its own in each clip and
as black as the background.

One core draws 750 clips of 4 balls per second, 470 of 6 to 8, and a third fewer in colour (51 frames of 64x64).

Axes: n clips, T frames, N entities (0 is the background, 1 + k ball k).

Source: van Steenkiste et al. 2018 (Relational N-EM), section 4.1, for the kinds of sets, and measurements on its
animations for the numbers; the colours are those of Zablotskaia et al. 2020. Left open there and chosen here: the
distribution of the number of balls.
"""

import dataclasses

import numpy as np

from . import counter_rng, elastic_discs

DEFAULT_SIZE = 64
"""Side of the published frames in pixels."""
MIN_SIZE = 16
"""Below, a ball is a handful of pixels."""
DEFAULT_FRAMES = 51
"""Frames of a published clip."""

RADII = (1.2, 1.5)
"""Radius of a light and of a heavy ball, in box units."""
MASSES = (1.0, 6.0)
"""Mass of a light and of a heavy ball."""
MARGIN = 2.0
"""Least distance of a centre from a wall at the start, in box units."""
SPEED = 0.5
"""Square root of the sum of all squared speeds at the start, in box units per frame."""
CURTAIN = 28
"""Side of the curtain, of 64."""

COLORS = np.array(
    [
        [227, 206, 166],
        [180, 120, 31],
        [138, 223, 178],
        [44, 160, 51],
        [153, 154, 251],
        [28, 26, 227],
        [111, 191, 253],
        [0, 127, 255],
    ],
    dtype=np.uint8,
)
"""Colours of balls 0-7 as RGB, [8, 3]."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One set.

    Attributes:
      min_balls: least number of balls.
      max_balls: greatest number of balls.
      num_colors: ball k has colour k modulo this of `COLORS`; 0 is white balls and frames of one channel.
      box: side of the box.
      curtain: whether a curtain hides a part of the box; the balls are light then.
    """

    min_balls: int
    max_balls: int
    num_colors: int = 0
    box: float = 15.0
    curtain: bool = False

    @property
    def num_entities(self):
        """Length of the entity axis, the background included."""
        return 1 + self.max_balls

    @property
    def channels(self):
        """Channels of a frame."""
        return 3 if self.num_colors else 1

    @property
    def palette(self):
        """RGB of the entities, uint8 [N, 3]; the background is black."""
        balls = (
            COLORS[np.arange(self.max_balls) % self.num_colors]
            if self.num_colors
            else np.full((self.max_balls, 3), 255)
        )
        return np.concatenate([np.zeros((1, 3)), balls]).astype(np.uint8)


VARIANTS = {
    "balls4_binary": Variant(4, 4),
    "balls4_color": Variant(4, 4, num_colors=4),
    "balls678_binary": Variant(6, 8),
    "balls678_color4": Variant(6, 8, num_colors=4),
    "balls678_color8": Variant(6, 8, num_colors=8),
    "balls3_curtain": Variant(3, 3, box=10.0, curtain=True),
}
"""Sets with the same number of balls show the same clips in other colours."""

DEFAULT_VARIANT = "balls4_binary"

# Separate this generator's random numbers from those of the others under the same seed, and from each other.
_STREAM, _CENTRE_STREAM, _DIRECTION_STREAM = 0x62616C6C, 0x62616C63, 0x62616C64

# Starts drawn at a time: a start of 4 balls is free of overlaps in 40 % of cases, one of 8 in 1 %.
_STARTS = {3: 8, 4: 8, 8: 64}
_DIRECTIONS = 4

# Clips drawn at a time, so that the frames stay in the processor's cache.
_CHUNK = 4


def get_variant(name):
    """Returns the `Variant` called `name`, or raises a ValueError that lists the valid names."""
    if name not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}. Received: {name!r}.")
    return VARIANTS[name]


def initial_state(indices, seed=0, variant=DEFAULT_VARIANT):
    """Draws the starts of clips.

    Only additions, multiplications, divisions and square roots are made of the random numbers, which all processors
    round alike: a clip has the same bits everywhere, although collisions blow up any difference.

    Args:
      indices: integer array [n], clip numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a set in `VARIANTS`.

    Returns:
      dict of float64 arrays for the M = N - 1 balls; zeros for absent ones, which come last:
        position: [n, M, 2], (x, y) of the centre.
        velocity: [n, M, 2], per frame.
        radius: [n, M].
        mass: [n, M].
        curtain: [n, 2], row and column of the top-left corner in 64ths of the side; only of sets with a curtain.
    """
    chosen = get_variant(variant)
    indices = counter_rng.checked_indices(indices)
    num_balls = chosen.max_balls
    words = counter_rng.random_words(indices, 3 + 2 * num_balls, seed=seed, stream=_STREAM)
    count = chosen.min_balls + counter_rng.integers(
        words[:, 0], chosen.max_balls - chosen.min_balls + 1
    )
    exists = np.arange(num_balls) < count[:, None]
    heavy = (
        np.zeros(exists.shape, np.int64)
        if chosen.curtain
        else counter_rng.integers(words[:, 3 : 3 + num_balls], 2)
    )
    state = {
        "radius": exists * np.array(RADII)[heavy],
        "mass": exists * np.array(MASSES)[heavy],
    }
    state["position"] = _centres(indices, seed, chosen, state["radius"])

    # Normalised normal vectors: their squared lengths are those of the pieces that random cuts leave of [0, 1].
    cuts = counter_rng.uniform(words[:, 3 + num_balls : 2 + 2 * num_balls])
    cuts = np.sort(np.where(exists[:, 1:], cuts, 1.0), axis=1)
    shares = np.diff(cuts, axis=1, prepend=0.0, append=1.0)
    state["velocity"] = SPEED * np.sqrt(shares)[..., None] * _directions(indices, seed, num_balls)
    if chosen.curtain:
        state["curtain"] = counter_rng.integers(words[:, 1:3], DEFAULT_SIZE - CURTAIN + 1).astype(
            np.float64
        )
    return state


def factors(indices, seed=0, variant=DEFAULT_VARIANT, num_frames=DEFAULT_FRAMES):
    """Draws what is in the clips: the start, and what follows from it.

    Args:
      indices: integer array [n], clip numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a set in `VARIANTS`.
      num_frames: number T of frames; a larger one only appends frames.

    Returns:
      dict of float32 arrays; zeros for the background but for `visibility`, and for absent balls, which come last:
        radius: [n, N], in box units.
        mass: [n, N].
        color: [n, N, 3], RGB in [0, 1]; white in sets of one channel.
        visibility: [n, N], 1 for every entity that exists.
        position: [n, T, N, 2], (x, y) of the centre in box units.
        velocity: [n, T, N, 2], (x, y) in box units per frame, after the collisions of the frame.
        collision: [n, T, N], 1 if the ball met another in the step that led to the frame.
        curtain: [n, 2], row and column of the top-left corner in 64ths of the side; only of sets with a curtain.
    """
    chosen = get_variant(variant)
    state = initial_state(indices, seed, variant)
    motion = elastic_discs.simulate(
        state["position"], state["velocity"], state["radius"], state["mass"], chosen.box, num_frames
    )
    drawn = {name: _with_background(state[name], 1) for name in ("radius", "mass")}
    visibility = drawn["radius"] > 0
    visibility[:, 0] = True
    drawn["color"] = (visibility[..., None] * (chosen.palette / 255.0)).astype(np.float32)
    drawn["visibility"] = visibility.astype(np.float32)
    drawn |= {
        name: _with_background(values, 2)
        for name, values in zip(("position", "velocity", "collision"), motion, strict=True)
    }
    if chosen.curtain:
        drawn["curtain"] = state["curtain"].astype(np.float32)
    return drawn


def render(factors, variant=DEFAULT_VARIANT, size=DEFAULT_SIZE):
    """Draws clips from their factors.

    The arithmetic is float64 on the float32 factors, so that stored factors give back the stored video bit for bit.

    Args:
      factors: dict with `position`, `radius`, `color`, and of sets with a curtain `curtain`, as `factors()` gives them, of
        any number N of entities and T of frames; the background is black, an entity with `radius` 0 is not drawn, and
        what lies outside the box is cut off.
      variant: name of a set in `VARIANTS`; says the side of the box and the number of channels.
      size: image side in pixels, at least `MIN_SIZE`.

    Returns:
      dict of
        video: uint8 [n, T, size, size, C], colours times 255, rounded.
        mask: uint8 [n, T, size, size], number of the visible entity, 0 for the background and behind the curtain.
        full_mask: `mask` without the curtain; only of sets with a curtain.

    Raises:
      ValueError: if the size is too small, or a position is not finite.
    """
    chosen = get_variant(variant)
    if size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")
    position, radius = (
        np.asarray(factors["position"], np.float64),
        np.asarray(factors["radius"], np.float64),
    )
    if not np.isfinite(position).all():
        raise ValueError("`position` must be finite. Received: NaN or infinity.")
    color = np.rint(255.0 * np.asarray(factors["color"], np.float64)).astype(np.uint8)[
        ..., : chosen.channels
    ]
    color[:, 0] = 0
    num_clips, num_frames, num_entities, _ = position.shape
    mask = np.empty((num_clips, num_frames, size, size), np.uint8)
    video = np.empty((*mask.shape, chosen.channels), np.uint8)
    drawn = {"video": video, "mask": mask}
    if chosen.curtain:
        drawn["full_mask"] = np.empty_like(mask)
        row, column = _behind_curtain(factors["curtain"], size)
        hidden = row[:, None, :, None] & column[:, None, None, :]  # [n, 1, H, W]
    for start in range(0, num_clips, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        labels = _draw(position[chunk], radius[chunk], chosen.box, size)
        if chosen.curtain:
            drawn["full_mask"][chunk] = labels
            labels = np.where(hidden[chunk], np.uint8(0), labels)
        mask[chunk] = labels
        for i, clip_labels in enumerate(labels, start):
            np.take(
                color[i], clip_labels, axis=0, out=video[i], mode="clip"
            )  # twice as fast as color[i][clip_labels]
    return drawn


def clips(indices, seed=0, variant=DEFAULT_VARIANT, num_frames=DEFAULT_FRAMES, size=DEFAULT_SIZE):
    """Draws clips: `factors()` with what `render()` returns in one dict."""
    drawn = factors(indices, seed, variant, num_frames)
    return {**render(drawn, variant, size), **drawn}


def _centres(indices, seed, variant, radius):
    """Draws centres without overlaps [n, M, 2] for balls of `radius` [n, M]; zeros for absent ones."""
    num_clips, num_balls = radius.shape
    starts = _STARTS[num_balls]
    centres = np.zeros((num_clips, num_balls, 2))
    exists = radius > 0
    pending = np.arange(num_clips)
    attempt = 0
    while pending.size:
        words = counter_rng.random_words(
            indices[pending],
            starts * num_balls * 2,
            seed=seed,
            stream=_CENTRE_STREAM,
            attempt=attempt,
        ).reshape(-1, starts, num_balls, 2)
        drawn = counter_rng.uniform(words, MARGIN, variant.box - MARGIN)
        free = np.ones(drawn.shape[:2], bool)
        for i in range(num_balls):
            for j in range(i):
                dx, dy = np.moveaxis(drawn[:, :, i] - drawn[:, :, j], -1, 0)
                reach = (radius[pending, i] + radius[pending, j]) * (
                    exists[pending, i] & exists[pending, j]
                )
                free &= dx * dx + dy * dy >= np.square(reach)[:, None]
        found = free.any(axis=1)
        centres[pending[found]] = drawn[found, np.argmax(free[found], axis=1)]
        pending = pending[~found]
        attempt += 1
    return centres * exists[..., None]


def _directions(indices, seed, num_balls):
    """Draws unit vectors [n, M, 2]: points of the unit disc, seen from its centre."""
    directions = np.zeros((len(indices), num_balls, 2))
    pending = np.arange(len(indices))
    attempt = 0
    while pending.size:
        words = counter_rng.random_words(
            indices[pending],
            _DIRECTIONS * num_balls * 2,
            seed=seed,
            stream=_DIRECTION_STREAM,
            attempt=attempt,
        ).reshape(-1, _DIRECTIONS, num_balls, 2)
        drawn = counter_rng.uniform(words, -1.0, 1.0)
        square = drawn[..., 0] ** 2 + drawn[..., 1] ** 2
        first = np.argmax(square < 1.0, axis=1)[:, None]  # [n, 1, M]
        square = np.take_along_axis(square, first, 1)[:, 0]
        unit = np.take_along_axis(drawn, first[..., None], 1)[:, 0] / np.sqrt(square)[..., None]
        found = (square < 1.0) & ~directions[pending].any(axis=-1)
        directions[pending] = np.where(found[..., None], unit, directions[pending])
        pending = pending[~directions[pending].any(axis=-1).all(axis=1)]
        attempt += 1
    return directions


def _draw(position, radius, box, size):
    """Returns whose each pixel is, uint8 [n, T, size, size], from `position` [n, T, N, 2] and `radius` [n, N]."""
    num_clips, num_frames, num_entities, _ = position.shape
    pixel = box / size
    # Only a window around the centre is tested; windows that leave the image end in a margin.
    width = int(np.ceil(2.0 * radius.max(initial=0.0) / pixel)) + 1
    canvas = np.zeros((num_clips * num_frames, size + 2 * width, size + 2 * width), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(
        canvas, (width, width), (1, 2), writeable=True
    )
    frames = np.arange(len(canvas)).reshape(num_clips, num_frames)
    window = np.arange(width)
    for entity in range(num_entities - 1, 0, -1):  # the lowest number is drawn last
        drawn = np.flatnonzero(radius[:, entity] > 0)
        limit = np.repeat(radius[drawn, entity], num_frames)
        centre = position[drawn, :, entity].reshape(-1, 2)
        first = np.clip(np.floor((centre - limit[:, None]) / pixel - 0.5) + 1, -width, size).astype(
            np.int64
        )  # [m, 2]
        offset = (first[..., None] + window + 0.5) * pixel - centre[..., None]  # [m, 2, width]
        square = np.square(offset)
        inside = square[:, 1, :, None] + square[:, 0, None, :] < np.square(limit)[:, None, None]
        place = frames[drawn].ravel(), first[:, 1] + width, first[:, 0] + width
        windows[place] = np.where(inside, np.uint8(entity), windows[place])
    return canvas[:, width:-width, width:-width].reshape(num_clips, num_frames, size, size)


def _behind_curtain(curtain, size):
    """Returns which rows and which columns the curtain covers, bool [n, size] each."""
    centres = (np.arange(size) + 0.5) * (DEFAULT_SIZE / size)
    first = np.asarray(curtain, np.float64)[..., None]  # [n, 2, 1]
    return np.moveaxis((first <= centres) & (centres < first + CURTAIN), 1, 0)


def _with_background(values, axis):
    """Prepends an entity of zeros and converts to float32."""
    background = np.zeros_like(values.take([0], axis))
    return np.concatenate([background, values], axis=axis).astype(np.float32)
