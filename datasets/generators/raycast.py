"""A ray caster in NumPy for spheres, cylinders and cubes: images, masks, amodal masks, depth.

Masks and depth come from one ray through each pixel's centre, and show exactly the rendered shapes;
colours come from the same rays and, where neighbouring pixels differ, from four more. A solid is
tested only against pixels inside the projection of its bounding box.

Fidelity: mean absolute difference from Blender's Cycles (32-48 samples, denoised, the same lamps,
materials and bevels) in grey levels of 255: 1.7 on the 12 scenes of `clevr6` at 128 x 128 to which
the closed-form bounce was fitted, where 53 of 54 objects have their mean colour within 6 levels;
0.9 on held-out scenes of `clevr5_vbg`; 3.9 on `clevr3`, inspected while fitting (large objects of
satin metal, up to 14 levels too bright).
Time: 0.1 to 0.2 CPU-seconds for a scene of three to six objects at 128 x 128.

Conventions: world coordinates with z upwards; pixel (row i, column j) covers [i, i + 1) x
[j, j + 1) of the frame, its centre is (i + 1/2, j + 1/2); depth is measured along the optical axis.

Axes: M solids, H x W pixels; vectors of m rays are arrays [3, m].
"""

import dataclasses

import numpy as np

from . import raycast_shading as shading
from . import raycast_shapes as shapes
from .raycast_shading import AreaLight, Scene, SunLight
from .raycast_shapes import Solids

__all__ = [
    "AreaLight",
    "Camera",
    "Cast",
    "Frame",
    "Scene",
    "Solids",
    "SunLight",
    "cast",
    "encode_srgb",
    "render",
]

# Pixels whose colour differs from a neighbour's by more than this (sRGB in [0, 1]) get more rays.
_CONTRAST = 0.04
# Offsets (x, y) of those rays from the pixel's centre, in pixels: a rotated grid.
_EXTRA_RAYS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))


@dataclasses.dataclass(frozen=True)
class Frame:
    """The camera's full image and the window of it that is rendered.

    Attributes:
      height: rows of the full image.
      width: columns of the full image.
      rows: (first, end) of the window.
      columns: (first, end) of the window.
    """

    height: int
    width: int
    rows: tuple
    columns: tuple

    @classmethod
    def whole(cls, height, width):
        """Returns the frame whose window is the full image."""
        return cls(height, width, (0, height), (0, width))


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
      position: [3].
      axes: [3, 3], rows are the unit vectors right, up and forward.
      field: width of the field of view at depth 1, along the longer side of the image (sensor
        width over focal length).
    """

    position: np.ndarray
    axes: np.ndarray
    field: float = 32.0 / 35.0

    @classmethod
    def looking_at(cls, position, target=(0.0, 0.0, 0.0), field=32.0 / 35.0):
        """Returns an upright camera that faces `target`.

        Raises:
          ValueError: if it would look straight up or down, where upright has no meaning.
        """
        position = np.asarray(position, np.float64)
        forward = np.asarray(target, np.float64) - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        if np.linalg.norm(right) < 1e-6:
            raise ValueError(
                "A camera that looks straight up or down is not upright. "
                f"Received: position={position}, target={target}."
            )
        right /= np.linalg.norm(right)
        return cls(position, np.stack([right, np.cross(right, forward), forward]), field)

    def directions(self, frame, column, row):
        """Returns world directions [3, m] of depth 1 through points (column, row) [m].

        The points are in pixels of the full image.
        """
        step = self.field / max(frame.height, frame.width)
        right, up, forward = self.axes[:, :, None]
        return (
            forward
            + right * ((column - frame.width / 2) * step)
            + up * ((frame.height / 2 - row) * step)
        )

    def project(self, frame, point):
        """Projects world points [3, m]; returns column and row (full image) and depth, [m] each."""
        step = self.field / max(frame.height, frame.width)
        right, up, depth = self.axes @ (point - self.position[:, None])
        with np.errstate(divide="ignore", invalid="ignore"):
            column = frame.width / 2 + right / (depth * step)
            row = frame.height / 2 - up / (depth * step)
        return column, row, depth


@dataclasses.dataclass(frozen=True)
class Cast:
    """The surfaces met by the rays through the pixels' centres.

    Attributes:
      owner: uint8 [H, W], 0 ground, 1 + index of the visible solid.
      amodal: bool [M, H, W], all pixels of each solid in the window, visible or hidden.
      depth: float64 [H, W], depth of the visible surface; infinite where there is none.
    """

    owner: np.ndarray
    amodal: np.ndarray
    depth: np.ndarray


def cast(solids, camera, frame, resolution, ground=True):
    """Casts one ray through the centre of every pixel.

    The ground hides no solid: solids stand on it, although the gently rising backdrop would swallow
    a sliver of their feet.

    Args:
      solids: `Solids`, at most 255.
      camera: a `Camera`.
      frame: a `Frame`.
      resolution: (H, W) to which the frame's window is sampled.
      ground: whether to compute the depth of the ground.

    Returns:
      a `Cast`.
    """
    height, width = resolution
    row, column = _pixel_centres(frame, resolution)
    owner = np.zeros((height, width), np.uint8)
    amodal = np.zeros((len(solids), height, width), bool)
    depth = np.full((height, width), np.inf)
    origin = camera.position[:, None]

    for index in range(len(solids)):
        rows, columns = _bounding_window(solids, index, camera, frame, row, column)
        grid = np.meshgrid(column[columns], row[rows])
        if not grid[0].size:
            continue

        directions = camera.directions(frame, grid[0].ravel(), grid[1].ravel())
        t = solids.first_hit(index, origin, directions).reshape(grid[0].shape)
        amodal[index, rows, columns] = np.isfinite(t)
        closer = t < depth[rows, columns]
        depth[rows, columns][closer] = t[closer]
        owner[rows, columns][closer] = index + 1

    if ground:
        column, row = np.meshgrid(column, row)
        bare = owner == 0
        depth[bare] = shapes.ground_hit(origin, camera.directions(frame, column[bare], row[bare]))
    return Cast(owner, amodal, depth)


def render(scene, camera, frame, resolution):
    """Renders a scene.

    Args:
      scene: a `Scene`.
      camera: a `Camera`, above the ground and outside all solids.
      frame: a `Frame`.
      resolution: (H, W) to which the frame's window is sampled.

    Returns:
      image: uint8 [H, W, 3], sRGB.
      cast: the `Cast` of the same pixels.
    """
    height, width = resolution
    hits = cast(scene.solids, camera, frame, resolution)
    row, column = _pixel_centres(frame, resolution)
    column, row = (axis.ravel() for axis in np.meshgrid(column, row))

    directions = camera.directions(frame, column, row)
    linear = _colors(
        scene, camera, directions, hits.depth.ravel(), hits.owner.ravel().astype(np.int64)
    )

    # Antialiasing: pixels at edges take the mean colour of four more rays.
    rough = encode_srgb(linear).reshape(3, height, width)
    chosen = np.flatnonzero(_uneven(rough, hits.owner))
    if chosen.size:
        row_step = (frame.rows[1] - frame.rows[0]) / height
        column_step = (frame.columns[1] - frame.columns[0]) / width
        offsets = np.array(_EXTRA_RAYS)
        more_column = (column[chosen] + offsets[:, :1] * column_step).ravel()
        more_row = (row[chosen] + offsets[:, 1:] * row_step).ravel()
        directions = camera.directions(frame, more_column, more_row)
        depth, owner = _extra_hits(scene, hits, camera, directions, chosen)
        more = _colors(scene, camera, directions, depth, owner)

        # Highlights are clipped to white before the mean, otherwise a white rim would surround
        # them.
        linear = np.minimum(linear, 1)
        linear[:, chosen] = np.minimum(more, 1).reshape(3, len(offsets), -1).mean(axis=1)

    image = np.rint(255 * encode_srgb(linear)).astype(np.uint8)
    return np.ascontiguousarray(image.reshape(3, height, width).transpose(1, 2, 0)), hits


def encode_srgb(linear):
    """Applies the sRGB transfer function to linear values clipped to [0, 1]."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _pixel_centres(frame, resolution):
    """Returns rows [H] and columns [W] of the pixels' centres in the full image."""
    height, width = resolution
    row_step = (frame.rows[1] - frame.rows[0]) / height
    column_step = (frame.columns[1] - frame.columns[0]) / width
    row = frame.rows[0] + (np.arange(height) + 0.5) * row_step
    column = frame.columns[0] + (np.arange(width) + 0.5) * column_step
    return row, column


def _bounding_window(solids, index, camera, frame, row, column):
    """Returns slices of the rows and columns whose centres may see a solid."""
    corner_column, corner_row, depth = camera.project(frame, solids.bounding_corners(index))
    if depth.max() <= 0:
        return slice(0), slice(0)
    if depth.min() <= 1e-3:
        # The projection of a box that reaches behind the camera is unbounded.
        return slice(None), slice(None)

    rows = np.searchsorted(row, (corner_row.min(), corner_row.max()))
    columns = np.searchsorted(column, (corner_column.min(), corner_column.max()))
    return slice(*rows), slice(*columns)


def _extra_hits(scene, hits, camera, directions, chosen):
    """Returns depth and owner of the extra rays of pixels `chosen`, [4 x pixels] each.

    Rays are ordered by their number within the pixel, then by pixel.
    """
    origin = camera.position[:, None]
    depth = np.full(directions.shape[1], np.inf)
    owner = np.zeros(depth.size, np.int64)
    for index in range(len(scene.solids)):
        # A solid that an extra ray hits covers the centre of its pixel or of a neighbour.
        near = _dilated(hits.amodal[index]).ravel()[chosen]
        rays = np.flatnonzero(np.tile(near, depth.size // chosen.size))
        t = scene.solids.first_hit(index, origin, directions[:, rays])
        closer = t < depth[rays]
        depth[rays[closer]] = t[closer]
        owner[rays[closer]] = index + 1

    bare = np.flatnonzero(owner == 0)
    depth[bare] = shapes.ground_hit(origin, directions[:, bare])
    return depth, owner


def _dilated(mask):
    """Returns a mask [H, W] grown by the eight neighbours of each pixel."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    wide = grown.copy()
    wide[:, 1:] |= grown[:, :-1]
    wide[:, :-1] |= grown[:, 1:]
    return wide


def _uneven(rough, owner):
    """Tells which pixels differ from a neighbour in owner or visibly in colour: bool [H, W]."""
    result = np.zeros(owner.shape, bool)
    for axis in (0, 1):
        differs = np.abs(np.diff(rough, axis=axis + 1)).max(axis=0) > _CONTRAST
        differs |= np.diff(owner.astype(np.int16), axis=axis) != 0

        # Both pixels of a pair are uneven.
        np.moveaxis(result, axis, 0)[:-1] |= np.moveaxis(differs, axis, 0)
        np.moveaxis(result, axis, 0)[1:] |= np.moveaxis(differs, axis, 0)
    return result


def _colors(scene, camera, directions, depth, owner):
    """Returns linear RGB [3, m] along rays that hit `owner` [m] at `depth` [m].

    It is black where the depth is infinite.
    """
    linear = np.zeros((3, depth.size), np.float32)
    seen = np.flatnonzero(np.isfinite(depth))
    point = (camera.position[:, None] + depth[seen] * directions[:, seen]).astype(np.float32)
    view = (-directions[:, seen] / shapes.norm(directions[:, seen])).astype(np.float32)
    normal = shading.surface_normal(scene, point, owner[seen])
    linear[:, seen] = shading.radiance(scene, point, normal, view, owner[seen])
    return linear
