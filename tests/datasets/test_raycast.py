"""The ray caster: solids against brute force, camera, ground, masks, lamps and materials."""

import dataclasses

import numpy as np
import pytest

from tfobj.datasets.generators import raycast, raycast_shading
from tfobj.datasets.generators import raycast_shapes as shapes

ALL_SHAPES = (shapes.SPHERE, shapes.CYLINDER, shapes.CUBE)
CAMERA = raycast.Camera.looking_at((7.48113, -6.50764, 5.34367))
FRAME = raycast.Frame.whole(240, 320)
SUN = raycast.SunLight(direction=(0.0, 0.0, 1.0), strength=1.0)


def solids(*rows):
    """Solids from (shape, size, position) or (shape, size, position, rotation)."""
    rotations = [row[3] if len(row) > 3 else np.eye(3) for row in rows]
    return raycast.Solids(
        shape=np.array([row[0] for row in rows], int),
        size=np.array([row[1] for row in rows], float),
        position=np.array([row[2] for row in rows], float).reshape(-1, 3),
        rotation=np.array(rotations, float).reshape(-1, 3, 3),
    )


def scene(*rows, material=raycast_shading.RUBBER, rgb=(0.5, 0.5, 0.5), lights=(SUN,), **options):
    count = len(rows)
    material = np.broadcast_to(material, count)
    rgb = np.broadcast_to(rgb, (count, 3))
    return raycast.Scene(solids(*rows), material, rgb, lights, **options)


def random_rotation(seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


def random_rays(count, seed=0):
    """Rays from a shell of radius 5 past the middle."""
    rng = np.random.default_rng(seed)
    origin = rng.normal(size=(3, count))
    origin *= 5 / np.linalg.norm(origin, axis=0)
    direction = rng.uniform(-1.5, 1.5, size=(3, count)) - origin
    return origin, direction / np.linalg.norm(direction, axis=0)


def distance_to(shape, point):
    """Signed distance, written apart from the package: [3, ...] in the solid's frame and unit."""
    x, y, z = np.abs(point)
    if shape == shapes.SPHERE:
        return np.sqrt(x**2 + y**2 + z**2) - 1
    if shape == shapes.CUBE:
        a = [x - 0.8, y - 0.8, z - 0.8]
        radius = 0.2
    else:
        a = [np.hypot(x, y) - 0.92, z - 0.92]
        radius = 0.08
    beyond = np.sqrt(sum(np.maximum(part, 0) ** 2 for part in a))
    return beyond + np.minimum(np.max(a, axis=0), 0) - radius


def along_rays(shape, origin, direction, steps=3001):
    """Signed distances [steps, m] at parameters [steps] of rays in the solid's frame."""
    t = np.linspace(1e-3, 10, steps)
    return t, distance_to(shape, origin[:, None] + t[:, None] * direction[:, None])


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_first_hit_equals_a_march_along_the_ray(shape):
    origin, direction = random_rays(400)
    t, distance = along_rays(shape, origin, direction)
    hit = solids((shape, 1.0, (0, 0, 0))).first_hit(0, origin, direction)
    clear = np.abs(distance.min(axis=0)) > 2e-3  # rays that graze the outline may fall either way
    expected = np.where((distance <= 0).any(axis=0), t[np.argmax(distance <= 0, axis=0)], np.inf)
    assert 100 < np.isfinite(expected).sum() < 390
    np.testing.assert_array_equal(np.isfinite(hit)[clear], np.isfinite(expected)[clear])
    found = clear & np.isfinite(expected)
    np.testing.assert_allclose(hit[found], expected[found], atol=2 * (t[1] - t[0]))
    at_hit = distance_to(shape, origin + np.where(np.isfinite(hit), hit, 0) * direction)
    assert np.abs(at_hit[np.isfinite(hit)]).max() < 1.1e-4


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_hits_move_turn_and_scale_with_the_solid(shape):
    origin, direction = random_rays(300, seed=1)
    plain = solids((shape, 1.0, (0, 0, 0))).first_hit(0, origin, direction)
    turn = random_rotation(2)
    shift = np.array([1.0, -2.0, 0.5])
    moved = solids((shape, 0.4, shift, turn))
    there = moved.first_hit(0, 0.4 * turn @ origin + shift[:, None], 0.4 * turn @ direction)
    np.testing.assert_allclose(there, plain, atol=1e-9)


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_clearance_equals_the_least_ratio_along_the_ray(shape):
    origin, direction = random_rays(400, seed=3)
    turn = random_rotation(4)
    t, distance = along_rays(shape, turn.T @ origin, turn.T @ direction)
    expected = (distance / t[:, None]).min(axis=0)
    clearance = solids((shape, 1.0, (0, 0, 0), turn)).clearance(0, origin, direction)
    near = np.abs(expected) < 0.15
    assert near.sum() > 100
    np.testing.assert_allclose(clearance[near], expected[near], atol=3e-3)


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_normals_are_gradients_of_the_distance(shape):
    origin, direction = random_rays(300, seed=5)
    turn = random_rotation(6)
    body = solids((shape, 1.0, (0, 0, 0), turn))
    t = body.first_hit(0, origin, direction)
    point = (origin + t * direction)[:, np.isfinite(t)]
    normal = body.normal(0, point)
    steps = 1e-5 * np.eye(3)[:, :, None]
    gradient = [
        (distance_to(shape, turn.T @ (point + h)) - distance_to(shape, turn.T @ (point - h))) / 2e-5
        for h in steps
    ]

    np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1, atol=1e-9)

    # At the seam of a flat and a rounded part, a difference straddles the two.
    assert (np.abs(normal - np.array(gradient)).max(axis=0) < 1e-3).mean() > 0.98


def test_rays_that_point_away_miss():
    for shape in ALL_SHAPES:
        body = solids((shape, 1.0, (0, 0, 0)))
        origin, direction = random_rays(50)
        assert np.isinf(body.first_hit(0, origin, -direction)).all()


def test_ground_lies_on_the_published_profile():
    rng = np.random.default_rng(0)
    column = rng.uniform(0, 320, 300)
    row = rng.uniform(0, 240, 300)
    direction = CAMERA.directions(FRAME, column, row)
    point = (
        CAMERA.position[:, None]
        + shapes.ground_hit(CAMERA.position[:, None], direction) * direction
    )
    along = shapes.GROUND_AXIS @ point

    for u, z in zip(along, point[2], strict=True):
        roots = np.roots([-17.3834, 79.4671, -126.9611, 92.5144, 14.009 - 23.5557 - u])
        t = roots[(np.abs(roots.imag) < 1e-9) & (roots.real > -0.01) & (roots.real < 1.01)].real[0]
        assert z == pytest.approx(23.2149 * t**4, abs=2e-3)

    assert point[2].max() > 0.8
    assert point[2, np.abs(along) < 4].max() < 0.05

    normal = shapes.ground_normal(point)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1, atol=1e-6)
    assert normal[2].min() > 0.8
    assert (shapes.GROUND_AXIS @ normal).max() < 1e-9


def test_the_stage_ends_above_and_towards_the_camera():
    up_steeply = [[0.0], [0.0], [1.0]]
    over_the_edge = [[0.75], [-0.65], [-0.01]]
    directions = np.hstack([up_steeply, over_the_edge, shapes.GROUND_AXIS[:, None]])
    t = shapes.ground_hit(np.array([[0.0], [0.0], [1.0]]), directions)
    assert np.isinf(t[:2]).all()
    assert 12 < t[2] < 14  # straight into the wall, which is one unit high at 13


def test_camera_is_clevrs():
    column, row, depth = CAMERA.project(FRAME, np.zeros((3, 1)))
    np.testing.assert_allclose([column[0], row[0], depth[0]], [160, 120, 11.264], atol=1e-3)
    np.testing.assert_allclose(CAMERA.axes[0], [0.6563, 0.7545, 0.0], atol=1e-4)
    np.testing.assert_allclose(CAMERA.axes @ CAMERA.axes.T, np.eye(3), atol=1e-12)
    # The field of view is 49.134 degrees across 320 columns.
    edges = CAMERA.directions(FRAME, np.array([0.0, 320.0]), np.array([120.0, 120.0])).T
    cosine = edges[0] @ edges[1] / np.linalg.norm(edges[0]) / np.linalg.norm(edges[1])
    assert np.rad2deg(np.arccos(cosine)) == pytest.approx(49.134, abs=1e-3)


def test_projection_inverts_directions():
    rng = np.random.default_rng(0)
    column = rng.uniform(0, 320, 50)
    row = rng.uniform(0, 240, 50)
    depth = rng.uniform(1, 20, 50)
    point = CAMERA.position[:, None] + depth * CAMERA.directions(FRAME, column, row)
    np.testing.assert_allclose(CAMERA.project(FRAME, point), [column, row, depth], atol=1e-9)


def test_upright_camera_cannot_look_straight_down():
    with pytest.raises(ValueError, match="looks straight up or down"):
        raycast.Camera.looking_at((0.0, 0.0, 5.0))


def test_sphere_masks_equal_brute_force_pixel_by_pixel():
    balls = [
        (0.7, (1.0, 0.5, 0.7)),
        (0.7, (0.2, 1.2, 0.7)),
        (0.35, (-1.0, -1.0, 0.35)),
        (1.0, (3.4, 2.8, 1.0)),
    ]
    body = solids(*[(shapes.SPHERE, size, place) for size, place in balls])
    hits = raycast.cast(body, CAMERA, FRAME, (60, 80))
    owner = np.zeros((60, 80), int)
    amodal = np.zeros((4, 60, 80), bool)
    depth = np.full((60, 80), np.inf)

    for i in range(60):
        for j in range(80):
            forward = CAMERA.axes.T @ [(4 * j + 2 - 160) / 350, (120 - 4 * i - 2) / 350, 1.0]
            for number, (size, place) in enumerate(balls):
                offset = CAMERA.position - place
                half = offset @ forward
                square = forward @ forward
                inside = half**2 - square * (offset @ offset - size**2)
                if inside >= 0:
                    amodal[number, i, j] = True
                    near = (-half - inside**0.5) / square
                    if near < depth[i, j]:
                        depth[i, j] = near
                        owner[i, j] = number + 1

    np.testing.assert_array_equal(hits.owner, owner)
    np.testing.assert_array_equal(hits.amodal, amodal)
    np.testing.assert_allclose(hits.depth[owner > 0], depth[owner > 0], atol=1e-9)
    assert (amodal[0] & amodal[1]).any()
    assert np.bincount(owner.ravel()).min() > 0


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_only_pixels_in_the_bounding_window_can_be_hit(shape):
    """The mask from the window equals the mask from rays through all pixels."""
    body = solids((shape, 0.9, (1.0, -1.0, 0.9), random_rotation(7)))
    hits = raycast.cast(body, CAMERA, FRAME, (60, 80))
    column, row = np.meshgrid(4 * np.arange(80) + 2.0, 4 * np.arange(60) + 2.0)
    everywhere = body.first_hit(
        0, CAMERA.position[:, None], CAMERA.directions(FRAME, column.ravel(), row.ravel())
    )
    np.testing.assert_array_equal(hits.amodal[0], np.isfinite(everywhere).reshape(60, 80))


def test_solids_behind_the_camera_and_beside_the_picture_are_not_seen():
    body = solids((shapes.CUBE, 0.7, (12.0, -12.0, 9.0)), (shapes.SPHERE, 0.7, (0.0, 60.0, 0.7)))
    hits = raycast.cast(body, CAMERA, FRAME, (30, 40))
    assert not hits.owner.any()
    assert not hits.amodal.any()
    assert np.isfinite(hits.depth).all()
    assert np.isinf(raycast.cast(body, CAMERA, FRAME, (30, 40), ground=False).depth).all()


def test_general_rotation():
    """A cube is invariant to quarter turns, a cylinder only to turns about its axis."""
    quarter = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    spin = shapes.rotation_about_z(np.array(0.8))

    def mask(shape, rotation):
        return raycast.cast(
            solids((shape, 1.0, (0, 0, 1), rotation)), CAMERA, FRAME, (60, 80)
        ).owner

    np.testing.assert_array_equal(mask(shapes.CUBE, np.eye(3)), mask(shapes.CUBE, quarter))
    np.testing.assert_array_equal(mask(shapes.CYLINDER, np.eye(3)), mask(shapes.CYLINDER, spin))
    assert (mask(shapes.CYLINDER, np.eye(3)) != mask(shapes.CYLINDER, quarter)).sum() > 10
    assert (mask(shapes.CUBE, np.eye(3)) != mask(shapes.CUBE, spin)).sum() > 10


def test_lamps_follow_the_inverse_square():
    lamp = raycast.AreaLight(position=(0.0, 0.0, 4.0), power=np.pi * 16)
    below, aside = np.float32([[0.0, 3.0], [0.0, 0.0], [0.0, 0.0]]).T[:, :, None]
    direction, distance, irradiance = lamp.toward(below)
    np.testing.assert_allclose([distance[0], irradiance[0]], [4.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(direction[:, 0], [0, 0, 1], atol=1e-6)
    # The lamp's own cosine is 4 / 5.
    assert lamp.toward(aside)[2][0] == pytest.approx(16 / 25 * 4 / 5, rel=1e-6)
    behind = np.float32([[0.0], [0.0], [5.0]])
    assert lamp.toward(behind)[2][0] == 0


def seen_sun(body, ground, sun):
    """Share [m] of the sun that points [3, m] on the ground see past one solid."""
    direction, distance, _ = sun.toward(ground)
    offset = body.position.astype(np.float32).T - ground
    owner = np.zeros(ground.shape[1], int)
    lit = np.ones(ground.shape[1], bool)
    return raycast_shading._visibility(
        body, [offset], owner, lit, direction, distance, sun.spread(distance)
    )


def shadow(height, column, radius=0.1):
    """Share of a vertical sun that ground at x = column sees past a ball of radius 1."""
    body = solids((shapes.SPHERE, 1.0, (0, 0, height)))
    ground = np.float32([[column], [0.0], [0.0]])
    return seen_sun(body, ground, dataclasses.replace(SUN, radius=radius))[0]


def test_soft_shadows():
    assert shadow(2.0, 0.0) == 0
    assert shadow(2.0, 1.5) == 1
    # Below the edge, half of the sun is visible.
    assert shadow(2.0, 1.0) == pytest.approx(0.5, abs=0.05)

    # The higher the ball, the wider the penumbra.
    low, high = (
        [0 < shadow(height, column) < 1 for column in np.linspace(0.2, 1.8, 161)]
        for height in (1.5, 4.0)
    )
    assert 1.5 * sum(low) < sum(high)


@pytest.mark.parametrize("shape", [shapes.CYLINDER, shapes.CUBE])
def test_shadows_of_all_shapes_end_below_their_edge(shape):
    body = solids((shape, 1.0, (0, 0, 2)))
    ground = np.zeros((3, 401), np.float32)
    ground[0] = np.linspace(0, 2, 401)
    seen = seen_sun(body, ground, SUN)
    assert seen[0] == 0
    assert seen[-1] == 1
    assert (np.diff(seen) > -1e-3).all()
    assert ground[0, np.argmax(seen > 0.5)] == pytest.approx(1.0, abs=0.04)


def test_level_ground_reflects_what_arrives():
    """rho / pi E of the sun, and a few per cent from the wall behind."""
    empty = scene(ground_reflectivity=0.5)
    up = np.float32([[0.0], [0.0], [1.0]])
    radiance = raycast_shading.radiance(
        empty, np.zeros((3, 1), np.float32), up, up, np.zeros(1, int)
    )
    direct = 0.5 / np.pi
    assert (radiance >= direct).all()
    assert (radiance <= 1.05 * direct).all()


@pytest.mark.parametrize(
    "width, most, least", [(0.1, 1.02, 0.97), (0.2, 0.97, 0.91), (0.4, 0.86, 0.75)]
)
def test_glossy_lobes_lose_what_goes_into_the_ground(width, most, least):
    """White furnace seen from above: facets steeper than 45 degrees mirror downwards.

    They are a**2 / (1 + a**2) of all facets of a lobe of width a.
    """
    rng = np.random.default_rng(0)
    count = 200_000
    # Directions with the density cos / pi.
    cosine = np.sqrt(rng.uniform(size=count))
    angle = rng.uniform(0, 2 * np.pi, count)
    sine = np.sqrt(1 - cosine**2)
    direction = np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine]).astype(np.float32)
    normal = np.float32([[0.0], [0.0], [1.0]])
    lobe = raycast_shading._highlight(
        normal, direction, normal, ((1.0, width),), np.zeros(count, np.float32)
    )

    assert least < np.pi * lobe.mean() < most


def test_mirror_lobe_is_brightest_where_the_lamp_is_mirrored():
    normal = np.float32([[0.0], [0.0], [1.0]])
    tilts = np.linspace(-1, 1, 201)
    direction = np.stack([np.sin(tilts), np.zeros(201), np.cos(tilts)]).astype(np.float32)
    view = np.float32([[-np.sin(0.5)], [0.0], [np.cos(0.5)]])
    lobe = raycast_shading._highlight(
        normal, direction, view, raycast_shading.METAL_LOBES, np.full(201, 0.03, np.float32)
    )
    assert tilts[np.argmax(lobe)] == pytest.approx(0.5, abs=0.02)
    assert lobe.max() > 20 * np.median(lobe)


def test_fresnel():
    cosine = np.float32([1.0, 0.5, 0.0])
    reflectance = raycast_shading._fresnel(cosine, 1.4)
    assert reflectance[0] == pytest.approx((0.4 / 2.4) ** 2, rel=1e-4)
    assert reflectance[2] == pytest.approx(1.0)
    assert reflectance[0] < reflectance[1] < 0.1


def test_metal_mirrors_its_neighbour_and_rubber_does_not():
    pair = (shapes.SPHERE, 0.7, (0.0, 0.0, 0.7)), (shapes.SPHERE, 0.7, (-1.2, -1.4, 0.7))
    colors = [(0.5, 0.5, 0.5), (0.9, 0.0, 0.0)]
    lights = (raycast.SunLight((0.4, -0.2, 0.9), 1.0),)
    excess = []
    for material in (raycast_shading.METAL, raycast_shading.RUBBER):
        drawn = scene(*pair, material=[material, raycast_shading.RUBBER], rgb=colors, lights=lights)
        image, hits = raycast.render(drawn, CAMERA, FRAME, (60, 80))
        own = image[hits.owner == 1].astype(int)
        excess.append((own[:, 0] - own[:, 2]).max())
    assert excess[0] > excess[1] + 40


def test_outlines_are_blended():
    """A white ball on black ground has intermediate values on its outline, and only there."""
    drawn = scene((shapes.SPHERE, 1.0, (0, 0, 1)), rgb=(1, 1, 1), ground_reflectivity=0.0)
    image, hits = raycast.render(drawn, CAMERA, FRAME, (60, 80))
    outside = (hits.owner == 0) & (image[..., 0] > 0)
    assert 10 < outside.sum() < 60  # pixels whose centre, but not all of it, sees the ground
    assert image[hits.owner == 0].max() < image[hits.owner == 1].max()
    again = raycast.render(drawn, CAMERA, FRAME, (60, 80))[0]
    np.testing.assert_array_equal(image, again)


def test_srgb():
    linear = np.array([-1.0, 0.0, 0.002, 0.2140, 0.5, 1.0, 7.0])
    np.testing.assert_allclose(
        raycast.encode_srgb(linear), [0, 0, 0.02584, 0.5, 0.7354, 1, 1], atol=1e-4
    )


def test_nothing_but_ground():
    image, hits = raycast.render(scene(), CAMERA, FRAME, (24, 32))
    assert not hits.owner.any()
    assert hits.amodal.shape == (0, 24, 32)
    assert image.dtype == np.uint8
    assert image.min() > 0
    assert image.shape == (24, 32, 3)
