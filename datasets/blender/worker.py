"""Renders scenes with Blender: a program for a Python with `bpy` 4.5, without this package.

    python worker.py scenes.json folder

scenes.json contains

    {"samples": 32,                            per pixel
     "size": 128,                              image side S in pixels
     "metal": [[0.4, 0.447], [0.6, 0.1]],      weight and roughness of both lobes
     "sensor_width": 19.2,                     mm
     "shift": [0.0, -0.026],                   to the right and up, in sensor widths
     "scenes": [scene, ...]}

and a scene is

    {"seed": 0,
     "camera": [x, y, z],
     "lights": [[x, y, z], [x, y, z], [x, y, z]],   key, fill, back
     "ground": 0.8,                                 reflectivity
     "objects": [{"shape": "cube" | "sphere" | "cylinder",
                  "material": "rubber" | "metal",
                  "radius": 0.7,
                  "color": [r, g, b],               linear, 0 to 1
                  "location": [x, y, z],
                  "azimuth": radians}, ...]}

For scene i, the program writes to `folder` <i>.png (RGB, 8 bit) and <i>.npz with `mask` uint8
[S, S] (number of the visible object from 1 on, 0 for the ground), `amodal_masks` uint8 {0, 1}
[J, S, S] (each object without the others) and `depth_map` float32 [S, S] (along the optical axis).
Masks and depth come from rays through the pixels' centres against the rendered meshes. The version
of Blender is written to folder/version.txt. Exit status 3: this Python has no `bpy`.

Lamps, ground, meshes and materials are those of the CLEVR generator (Johnson et al. 2017), rebuilt
from their parameters.
"""

import json
import math
import os
import pathlib
import sys

NO_BLENDER = 3
"""Exit status if this Python has no `bpy`."""

_LENS = 35.0
"""Focal length, mm."""

# Name -> (side of the square, power in W, colour). The scene gives their positions; they face the
# origin.
_LAMPS = {
    "key": (0.5, 78.54, (1.0, 0.93231, 0.81666)),
    "fill": (0.5, 23.562, (0.76167, 0.81772, 1.0)),
    "back": (1.0, 39.27, (1.0, 1.0, 1.0)),
}
_SUN = {"location": (11.66, -6.63, 25.82), "degrees": (13.52, 23.89, 5.56), "strength": 0.45}

# The ground rises behind the scene: its profile gives height and distance from the origin, along a
# direction, as functions of a parameter t in [0, 1] (height h t**4, distance a polynomial).
_GROUND_DIRECTION = (-0.9032, 0.4292)
_GROUND_HEIGHT = 23.2149
_GROUND_DISTANCE = (-17.3834, 79.4671, -126.9611, 92.5144, -9.5467)
_GROUND_POINTS = 48
_GROUND_HALF_WIDTH = 40.0


def main(scenes_path, folder):
    """Renders all scenes of a file; returns the exit status."""
    try:
        import bpy
    except ImportError as error:
        print(error, file=sys.stderr)
        return NO_BLENDER

    _silence_standard_output()
    job = json.loads(pathlib.Path(scenes_path).read_text())
    folder = pathlib.Path(folder)
    (folder / "version.txt").write_text(bpy.app.version_string)
    for i, scene in enumerate(job["scenes"]):
        render(scene, job, folder / str(i))
    return 0


def render(scene, job, path):
    """Renders one scene of a job to `path`.png and writes `path`.npz."""
    import bpy
    import numpy as np

    # An empty file; references to objects of the previous scene become invalid.
    bpy.ops.wm.read_factory_settings(use_empty=True)
    _set_up(scene["seed"], job["size"], job["samples"])
    camera = _add_camera(scene["camera"], job["sensor_width"], job["shift"])
    for position, (name, lamp) in zip(scene["lights"], _LAMPS.items(), strict=True):
        _add_lamp(name, position, *lamp)
    _add_sun()
    ground = _add_ground(scene["ground"])
    objects = [_add_object(entity, job["metal"]) for entity in scene["objects"]]
    # `_cast` reads the objects' matrices, which Blender updates lazily.
    bpy.context.view_layer.update()

    bpy.context.scene.render.filepath = os.fspath(path) + ".png"
    bpy.ops.render.render(write_still=True)
    np.savez_compressed(os.fspath(path) + ".npz", **_cast(camera, ground, objects, job["size"]))


def _set_up(seed, size, samples):
    """Sets engine, colour management and output."""
    import bpy

    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    # One process per core, each with one thread, instead of several threads per image.
    scene.render.threads_mode = "FIXED"
    scene.render.threads = 1
    scene.render.resolution_x = size
    scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.dither_intensity = 0.0
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.image_settings.color_depth = "8"

    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.seed = seed
    cycles.samples = samples
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = True
    cycles.denoiser = "OPENIMAGEDENOISE"
    cycles.max_bounces = 8
    cycles.transparent_max_bounces = 8
    cycles.caustics_reflective = False
    cycles.caustics_refractive = False
    cycles.blur_glossy = 2.0

    # Plain sRGB, as in the published images.
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"
    scene.view_settings.exposure = 0.0
    scene.view_settings.gamma = 1.0

    # No ambient light.
    scene.world = bpy.data.worlds.new("dark")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.0


def _add_camera(position, sensor_width, shift):
    """Adds a camera that faces the origin."""
    import bpy

    data = bpy.data.cameras.new("camera")
    data.lens = _LENS
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = sensor_width
    data.shift_x, data.shift_y = shift

    camera = _link("camera", data)
    _aim(camera, position)
    bpy.context.scene.camera = camera
    return camera


def _add_lamp(name, position, side, power, color):
    """Adds a square lamp that faces the origin."""
    import bpy

    data = bpy.data.lights.new(name, "AREA")
    data.shape = "SQUARE"
    data.size = side
    data.energy = power
    data.color = color
    _aim(_link(name, data), position)


def _add_sun():
    """Adds the sun, which is the same in all scenes."""
    import bpy

    data = bpy.data.lights.new("sun", "SUN")
    data.energy = _SUN["strength"]
    sun = _link("sun", data)
    sun.location = _SUN["location"]
    sun.rotation_euler = [math.radians(angle) for angle in _SUN["degrees"]]


def _add_ground(reflectivity):
    """Adds the backdrop: its profile, extruded sideways."""
    import bpy

    along_x, along_y = _GROUND_DIRECTION
    vertices = []
    for i in range(_GROUND_POINTS):
        t = i / (_GROUND_POINTS - 1)
        distance = sum(
            factor * t**power
            for power, factor in zip((4, 3, 2, 1, 0), _GROUND_DISTANCE, strict=True)
        )
        for side in (-_GROUND_HALF_WIDTH, _GROUND_HALF_WIDTH):
            position = (distance * along_x + side * along_y, distance * along_y - side * along_x)
            vertices.append((*position, _GROUND_HEIGHT * t**4))
    faces = [(2 * i, 2 * i + 1, 2 * i + 3, 2 * i + 2) for i in range(_GROUND_POINTS - 1)]

    mesh = bpy.data.meshes.new("ground")
    mesh.from_pydata(vertices, [], faces)
    graph = _Material("ground")
    graph.finish(graph.shader("ShaderNodeBsdfDiffuse", Color=(reflectivity,) * 3))
    return _link("ground", _smooth(mesh, graph.material))


def _add_object(entity, metal):
    """Adds an object of a scene; `metal` is the job's list of lobes."""
    if entity["material"] == "metal":
        material = _metal(entity["color"], metal)
    else:
        material = _rubber(entity["color"])

    solid = _link(entity["shape"], _smooth(_solid_mesh(entity["shape"]), material))
    solid.scale = (entity["radius"],) * 3
    solid.location = entity["location"]
    solid.rotation_euler = (0.0, 0.0, entity["azimuth"])
    return solid


def _solid_mesh(shape):
    """Returns the mesh of a shape, which spans -1 ... 1 along all axes."""
    import bmesh
    import bpy

    solid = bmesh.new()
    if shape == "sphere":
        bmesh.ops.create_uvsphere(solid, u_segments=96, v_segments=48, radius=1.0)
    elif shape == "cylinder":
        bmesh.ops.create_cone(
            solid, cap_ends=True, cap_tris=False, segments=96, radius1=1.0, radius2=1.0, depth=2.0
        )
        # The edges of the rims are the horizontal ones.
        rims = [edge for edge in solid.edges if abs(edge.verts[0].co.z - edge.verts[1].co.z) < 1e-6]
        bmesh.ops.bevel(solid, geom=rims, offset=0.08, segments=4, profile=0.5, affect="EDGES")
    elif shape == "cube":
        bmesh.ops.create_cube(solid, size=2.0)
        bmesh.ops.bevel(
            solid, geom=solid.edges[:], offset=0.2, segments=6, profile=0.5, affect="EDGES"
        )
    else:
        raise ValueError(f"`shape` must be cube, sphere or cylinder. Received: {shape!r}.")

    mesh = bpy.data.meshes.new(shape)
    solid.to_mesh(mesh)
    solid.free()
    return mesh


def _metal(color, lobes):
    """Returns metal: two lobes of the object's colour, one rough, one nearly a mirror."""
    graph = _Material("metal")
    weights, roughness = zip(*lobes, strict=True)
    first, second = (
        graph.shader(
            "ShaderNodeBsdfAnisotropic",
            {"distribution": "GGX"},
            Color=color,
            Roughness=value,
            Anisotropy=0.25,
        )
        for value in roughness
    )
    return graph.finish(graph.mix(weights[1] / sum(weights), first, second))


def _rubber(color):
    """Returns rubber: diffuse, with velvet towards the outline, under a faint gloss."""
    graph = _Material("rubber")
    diffuse = graph.shader("ShaderNodeBsdfDiffuse", Color=color)
    velvet = graph.shader(
        "ShaderNodeBsdfSheen", {"distribution": "ASHIKHMIN"}, Color=color, Roughness=0.6
    )
    gloss = graph.shader(
        "ShaderNodeBsdfAnisotropic",
        {"distribution": "BECKMANN"},
        Color=(0.8,) * 3,
        Roughness=math.sqrt(0.35),
    )

    body = graph.mix(graph.fresnel(1.4), diffuse, velvet)
    return graph.finish(graph.mix(graph.fresnel(1.2), body, gloss))


class _Material:
    """A material made of shader nodes; its methods return output sockets."""

    def __init__(self, name):
        import bpy

        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self._tree = self.material.node_tree
        self._tree.nodes.clear()

    def shader(self, kind, settings=None, **inputs):
        """Adds a shader node with attributes `settings` and values of its input sockets."""
        node = self._tree.nodes.new(kind)
        for name, value in (settings or {}).items():
            setattr(node, name, value)
        for name, value in inputs.items():
            node.inputs[name].default_value = (*value, 1.0) if name == "Color" else value
        return node.outputs[0]

    def fresnel(self, ior):
        """Adds a node for the Fresnel reflectance towards the viewer."""
        return self.shader("ShaderNodeFresnel", IOR=ior)

    def mix(self, factor, first, second):
        """Adds a node for (1 - factor) first + factor second; `factor` is a number or a socket."""
        node = self._tree.nodes.new("ShaderNodeMixShader")
        if isinstance(factor, float):
            node.inputs[0].default_value = factor
        else:
            self._tree.links.new(factor, node.inputs[0])
        self._tree.links.new(first, node.inputs[1])
        self._tree.links.new(second, node.inputs[2])
        return node.outputs[0]

    def finish(self, shader):
        """Makes a shader the surface of the material and returns the material."""
        output = self._tree.nodes.new("ShaderNodeOutputMaterial")
        self._tree.links.new(shader, output.inputs["Surface"])
        return self.material


def _cast(camera, ground, objects, size):
    """Returns `mask`, `amodal_masks` and `depth_map` from rays through the pixels' centres."""
    import numpy as np

    data = camera.data
    origin = camera.matrix_world.translation
    right, up, backward = (camera.matrix_world.col[axis].to_3d().normalized() for axis in range(3))
    extent = data.sensor_width / data.lens
    trees = [_tree(solid) for solid in (ground, *objects)]
    depth = np.full((len(trees), size, size), np.inf, np.float32)

    for i in range(size):
        y = (0.5 - (i + 0.5) / size + data.shift_y) * extent
        for j in range(size):
            x = ((j + 0.5) / size - 0.5 + data.shift_x) * extent
            direction = (x * right + y * up - backward).normalized()
            for number, tree in enumerate(trees):
                hit = tree.ray_cast(origin, direction)[0]
                if hit is not None:
                    depth[number, i, j] = (origin - hit).dot(backward)

    # The part of an object below the ground belongs to no mask.
    amodal = depth[1:] < depth[:1]
    visible = np.concatenate([depth[:1], np.where(amodal, depth[1:], np.inf)])
    return {
        "mask": visible.argmin(axis=0).astype(np.uint8),
        "amodal_masks": amodal.astype(np.uint8),
        "depth_map": visible.min(axis=0),
    }


def _tree(solid):
    """Returns a search tree for rays against an object's mesh in the world."""
    from mathutils.bvhtree import BVHTree

    vertices = [solid.matrix_world @ vertex.co for vertex in solid.data.vertices]
    return BVHTree.FromPolygons(
        vertices, [tuple(polygon.vertices) for polygon in solid.data.polygons]
    )


def _smooth(mesh, material):
    """Gives a mesh its material and smooth shading, and returns it."""
    mesh.materials.append(material)
    mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
    mesh.update()
    return mesh


def _link(name, data):
    """Adds an object with new data to the scene and returns it."""
    import bpy

    added = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(added)
    return added


def _aim(camera_or_lamp, position):
    """Places a camera or lamp and turns it to the origin, upright."""
    from mathutils import Vector

    camera_or_lamp.location = position
    camera_or_lamp.rotation_mode = "QUATERNION"
    camera_or_lamp.rotation_quaternion = (-Vector(position)).to_track_quat("-Z", "Y")


def _silence_standard_output():
    """Redirects file descriptor 1, to which Blender writes lines about every image from C."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
