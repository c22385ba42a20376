"""Bouncing balls: hard discs that collide elastically in a square box, 51 frames of 64x64 pixels.

The original program was not published. Its rules were recovered from the animations of Relational
N-EM; the simulation (`elastic_discs`) follows most of them to a tenth of a pixel over 100 frames.
Lengths are in box units (the box fills the image; its side is 15, or 10 with a curtain), x is the
column and y the row from the top-left corner.

Initial state: centres are uniform in [2, side - 2]^2, all resampled while two balls overlap;
velocities are normal, scaled to sum_k |v_k|^2 = 1/4. A ball is light (radius 1.2, mass 1) or heavy
(radius 1.5, mass 6) with equal probability; behind a curtain all are light. Between 6 and 8 balls
each number is equally likely. Frame 0 shows the initial state.

A pixel belongs to a ball if the distance of their centres is less than the radius. Where discs
overlap (contacts of three bodies), the lower number wins. The curtain is a square of 28 pixels of
64, at a random position in each clip, and as black as the background.

One core generates 750 clips of 4 balls per second, 470 of 6 to 8, and a third fewer in colour (51
frames of 64x64).

Axes: n clips, T frames, N entities (0 is the background, 1 + k is ball k).

Source: van Steenkiste et al. 2018 (Relational N-EM), section 4.1, for the kinds of datasets, and
measurements on its animations for the numbers; the colours are those of Zablotskaia et al. 2020.
Left open there and chosen here: the distribution of the number of balls.
"""

import dataclasses

import numpy as np

from . import counter_rng, elastic_discs

DEFAULT_SIZE = 64
"""Side of the published frames in pixels."""
MIN_SIZE = 16
"""Below it, a ball is a handful of pixels."""
DEFAULT_FRAMES = 51
"""Number of frames of a published clip."""

RADII = (1.2, 1.5)
"""Radius of a light and of a heavy ball, in box units."""
MASSES = (1.0, 6.0)
"""Mass of a light and of a heavy ball."""
MARGIN = 2.0
"""Least initial distance of a centre from a wall, in box units."""
SPEED = 0.5
"""Square root of the sum of all squared initial speeds, in box units per frame."""
CURTAIN = 28
"""Side of the curtain, of 64 pixels."""

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
    """One dataset of bouncing balls.

    Attributes:
      min_balls: least number of balls.
      max_balls: greatest number of balls.
      num_colors: ball k has colour k % num_colors of `COLORS`; 0 means white balls and one channel.
      box: side of the box.
      curtain: whether a curtain hides a part of the box; if so, all balls are light.
    """

    min_balls: int
    max_balls: int
    num_colors: int = 0
    box: float = 15.0
    curtain: bool = False

    @property
    def num_entities(self):
        """Length of the entity axis: background and `max_balls`."""
        return 1 + self.max_balls

    @property
    def channels(self):
        """Number of channels of a frame."""
        return 3 if self.num_colors else 1

    @property
    def palette(self):
        """RGB of the entities, uint8 [N, 3]; the background is black."""
        if self.num_colors:
            balls = COLORS[np.arange(self.max_balls) % self.num_colors]
        else:
            balls = np.full((self.max_balls, 3), 255)
        return np.concatenate([np.zeros((1, 3)), balls]).astype(np.uint8)


VARIANTS = {
    "balls4_binary": Variant(4, 4),
    "balls4_color": Variant(4, 4, num_colors=4),
    "balls678_binary": Variant(6, 8),
    "balls678_color4": Variant(6, 8, num_colors=4),
    "balls678_color8": Variant(6, 8, num_colors=8),
    "balls3_curtain": Variant(3, 3, box=10.0, curtain=True),
}
"""Variants with the same number of balls show the same clips in other colours."""

DEFAULT_VARIANT = "balls4_binary"

# Separate this generator's random numbers from those of the others under the same seed, and from
# each other.
_STREAM = 0x62616C6C
_CENTRE_STREAM = 0x62616C63
_DIRECTION_STREAM = 0x62616C64

# Candidates per attempt: placements of all centres, by the greatest number of balls (those of 4
# balls are free of overlaps in 40 % of cases, those of 8 in 1 %), and points for a direction.
_PLACEMENTS = {3: 8, 4: 8, 8: 64}
_DIRECTIONS = 4

# Clips rendered at a time, so that the frames stay in the processor's cache.
_CHUNK = 4


def get_variant(name):
    """Returns the `Variant` called `name`, or raises a ValueError that lists the valid names."""
    if name not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}. Received: {name!r}.")
    return VARIANTS[name]


def initial_state(indices, seed=0, variant=DEFAULT_VARIANT):
    """Samples the initial states of clips.

    The random numbers pass through additions, multiplications, divisions and square roots only,
    which all processors round alike: a clip has the same bits everywhere, although collisions
    amplify any difference.

    Args:
      indices: integer array [n], clip numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a `Variant` in `VARIANTS`.

    Returns:
      dict of float64 arrays for the M = N - 1 balls; zeros for absent ones, which come last:
        position: [n, M, 2], (x, y) of the centre.
        velocity: [n, M, 2], per frame.
        radius: [n, M].
        mass: [n, M].
        curtain: [n, 2], row and column of the top-left corner in 64ths of the side; only for
          variants with a curtain.

    Raises:
      ValueError: if the variant is unknown, or an index or the seed is out of range.
    """
    chosen = get_variant(variant)
    indices = counter_rng.checked_indices(indices)
    num_balls = chosen.max_balls
    words = counter_rng.random_words(indices, 3 + 2 * num_balls, seed=seed, stream=_STREAM)

    choices = chosen.max_balls - chosen.min_balls + 1
    count = chosen.min_balls + counter_rng.integers(words[:, 0], choices)
    exists = np.arange(num_balls) < count[:, None]
    heavy = counter_rng.integers(words[:, 3 : 3 + num_balls], 2)
    if chosen.curtain:
        heavy[:] = 0
    state = {
        "radius": exists * np.array(RADII)[heavy],
        "mass": exists * np.array(MASSES)[heavy],
    }
    state["position"] = _centres(indices, seed, chosen, state["radius"])

    # Normalised normal vectors: their squared lengths are distributed as the pieces into which
    # uniform cuts divide [0, 1].
    cuts = counter_rng.uniform(words[:, 3 + num_balls : 2 + 2 * num_balls])
    cuts = np.sort(np.where(exists[:, 1:], cuts, 1.0), axis=1)
    shares = np.diff(cuts, axis=1, prepend=0.0, append=1.0)
    state["velocity"] = SPEED * np.sqrt(shares)[..., None] * _directions(indices, seed, num_balls)

    if chosen.curtain:
        corner = counter_rng.integers(words[:, 1:3], DEFAULT_SIZE - CURTAIN + 1)
        state["curtain"] = corner.astype(np.float64)
    return state


def factors(indices, seed=0, variant=DEFAULT_VARIANT, num_frames=DEFAULT_FRAMES):
    """Samples initial states and simulates the clips that follow from them.

    Args:
      indices: integer array [n], clip numbers.
      seed: dataset seed in [0, 2**64).
      variant: name of a `Variant` in `VARIANTS`.
      num_frames: number T of frames; a larger one only appends frames.

    Returns:
      dict of float32 arrays; zeros for absent balls, which come last, and for the background except
      `visibility`:
        radius: [n, N], in box units.
        mass: [n, N].
        color: [n, N, 3], RGB in [0, 1]; white in variants of one channel.
        visibility: [n, N], 1 for every entity that exists.
        position: [n, T, N, 2], (x, y) of the centre in box units.
        velocity: [n, T, N, 2], (x, y) in box units per frame, after the collisions of the frame.
        collision: [n, T, N], 1 if the ball collided in the step that led to the frame.
        curtain: [n, 2], row and column of the top-left corner in 64ths of the side; only for
          variants with a curtain.

    Raises:
      ValueError: if the variant is unknown, or an index, the seed or `num_frames` is out of range.
    """
    chosen = get_variant(variant)
    state = initial_state(indices, seed, variant)
    motion = elastic_discs.simulate(
        state["position"], state["velocity"], state["radius"], state["mass"], chosen.box, num_frames
    )

    result = {name: _with_background(state[name], 1) for name in ("radius", "mass")}
    visibility = result["radius"] > 0
    visibility[:, 0] = True
    result["color"] = (visibility[..., None] * (chosen.palette / 255.0)).astype(np.float32)
    result["visibility"] = visibility.astype(np.float32)

    for name, values in zip(("position", "velocity", "collision"), motion, strict=True):
        result[name] = _with_background(values, 2)
    if chosen.curtain:
        result["curtain"] = state["curtain"].astype(np.float32)
    return result


def render(factors, variant=DEFAULT_VARIANT, size=DEFAULT_SIZE):
    """Renders clips from their factors.

    The arithmetic is float64 on the float32 factors, so that stored factors reproduce the stored
    video bit for bit.

    Args:
      factors: dict with `position`, `radius`, `color`, and `curtain` for variants with a curtain,
        as `factors()` returns them, for any number N of entities and T of frames. The background is
        black, an entity with `radius` 0 is not rendered, and balls are clipped to the box.
      variant: name of a `Variant` in `VARIANTS`; determines the box and the number of channels.
      size: image side in pixels, at least `MIN_SIZE`.

    Returns:
      dict of
        video: uint8 [n, T, size, size, C], colours times 255, rounded.
        mask: uint8 [n, T, size, size], number of the visible entity, 0 for the background and
          behind the curtain.
        full_mask: `mask` without the curtain; only for variants with a curtain.

    Raises:
      ValueError: if the size is too small, or a position is not finite.
    """
    chosen = get_variant(variant)
    if size < MIN_SIZE:
        raise ValueError(f"`size` must be at least {MIN_SIZE} pixels. Received: size={size}.")
    position = np.asarray(factors["position"], np.float64)
    radius = np.asarray(factors["radius"], np.float64)
    if not np.isfinite(position).all():
        raise ValueError("`position` must be finite. Received: NaN or infinity.")

    color = np.rint(255.0 * np.asarray(factors["color"], np.float64)).astype(np.uint8)
    color = color[..., : chosen.channels]
    color[:, 0] = 0

    num_clips, num_frames, _, _ = position.shape
    mask = np.empty((num_clips, num_frames, size, size), np.uint8)
    video = np.empty((*mask.shape, chosen.channels), np.uint8)
    rendered = {"video": video, "mask": mask}
    if chosen.curtain:
        rendered["full_mask"] = np.empty_like(mask)
        row, column = _behind_curtain(factors["curtain"], size)
        hidden = row[:, None, :, None] & column[:, None, None, :]  # [n, 1, H, W]

    for start in range(0, num_clips, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        labels = _label_maps(position[chunk], radius[chunk], chosen.box, size)
        if chosen.curtain:
            rendered["full_mask"][chunk] = labels
            labels = np.where(hidden[chunk], np.uint8(0), labels)
        mask[chunk] = labels

        # `np.take` with `out` and `mode` is twice as fast as `color[i][clip_labels]`.
        for i, clip_labels in enumerate(labels, start):
            np.take(color[i], clip_labels, axis=0, out=video[i], mode="clip")
    return rendered


def clips(indices, seed=0, variant=DEFAULT_VARIANT, num_frames=DEFAULT_FRAMES, size=DEFAULT_SIZE):
    """Generates clips: the results of `factors()` and `render()` in one dict."""
    sampled = factors(indices, seed, variant, num_frames)
    return {**render(sampled, variant, size), **sampled}


def _centres(indices, seed, variant, radius):
    """Samples centres [n, M, 2] without overlaps for balls of `radius` [n, M]; zeros if absent."""
    num_clips, num_balls = radius.shape
    num_placements = _PLACEMENTS[num_balls]
    exists = radius > 0
    centres = np.zeros((num_clips, num_balls, 2))

    pending = np.arange(num_clips)
    attempt = 0
    while pending.size:
        words = counter_rng.random_words(
            indices[pending],
            num_placements * num_balls * 2,
            seed=seed,
            stream=_CENTRE_STREAM,
            attempt=attempt,
        ).reshape(-1, num_placements, num_balls, 2)
        placements = counter_rng.uniform(words, MARGIN, variant.box - MARGIN)
        free = _without_overlap(placements, radius[pending], exists[pending])

        # The first valid placement counts: the number of candidates per attempt is part of the
        # random stream.
        found = free.any(axis=1)
        centres[pending[found]] = placements[found, np.argmax(free[found], axis=1)]
        pending = pending[~found]
        attempt += 1
    return centres * exists[..., None]


def _without_overlap(placements, radius, exists):
    """Tells which placements [n, P, M, 2] of balls [n, M] leave no overlap: bool [n, P]."""
    free = np.ones(placements.shape[:2], bool)
    for i in range(radius.shape[1]):
        for j in range(i):
            dx, dy = np.moveaxis(placements[:, :, i] - placements[:, :, j], -1, 0)
            reach = (radius[:, i] + radius[:, j]) * (exists[:, i] & exists[:, j])
            free &= dx * dx + dy * dy >= np.square(reach)[:, None]
    return free


def _directions(indices, seed, num_balls):
    """Samples unit vectors [n, M, 2]: uniform points of the unit disc, normalised.

    Rejection from the square needs no sine or cosine, which libraries round differently.
    """
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
        points = counter_rng.uniform(words, -1.0, 1.0)

        # Per ball the first point inside the disc.
        square = points[..., 0] ** 2 + points[..., 1] ** 2
        first = np.argmax(square < 1.0, axis=1)[:, None]  # [n, 1, M]
        square = np.take_along_axis(square, first, 1)[:, 0]
        unit = np.take_along_axis(points, first[..., None], 1)[:, 0] / np.sqrt(square)[..., None]

        found = (square < 1.0) & ~directions[pending].any(axis=-1)
        directions[pending] = np.where(found[..., None], unit, directions[pending])
        pending = pending[~directions[pending].any(axis=-1).all(axis=1)]
        attempt += 1
    return directions


def _label_maps(position, radius, box, size):
    """Returns the number of the ball at each pixel, 0 if there is none: uint8 [n, T, size, size].

    Position is [n, T, N, 2], radius [n, N].
    """
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

    # The lowest number is painted last and wins.
    for entity in range(num_entities - 1, 0, -1):
        clips = np.flatnonzero(radius[:, entity] > 0)
        limit = np.repeat(radius[clips, entity], num_frames)
        centre = position[clips, :, entity].reshape(-1, 2)
        first = np.floor((centre - limit[:, None]) / pixel - 0.5) + 1
        first = np.clip(first, -width, size).astype(np.int64)  # [m, 2]

        offset = (first[..., None] + window + 0.5) * pixel - centre[..., None]  # [m, 2, width]
        square = np.square(offset)
        inside = square[:, 1, :, None] + square[:, 0, None, :] < np.square(limit)[:, None, None]
        place = (frames[clips].ravel(), first[:, 1] + width, first[:, 0] + width)
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
