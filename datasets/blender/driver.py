"""Renders the scenes of `clevr_scenes` with Blender and returns images, masks and depth.

`clevr_scenes` (with its ray caster) decides on the contents of a scene and on their visibility, so
a scene number means the same scene for both renderers. Masks and depth are those of the meshes that
Blender renders.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from tfobj.datasets.generators import clevr_scenes, raycast_shading, raycast_shapes
from tfobj.errors import UserError, first_line

VARIABLE = "TFOBJ_BLENDER_PYTHON"
"""Environment variable with the path of a Python that has `bpy`; default is the running one."""

DEFAULT_SAMPLES = 32
"""Samples per pixel, with denoising: clean at 128 pixels; the published images took 512 without."""

_WORKER = pathlib.Path(__file__).with_name("worker.py")
_NO_BLENDER = 3
_SENSOR_WIDTH = 32.0


def scenes(indices, seed=0, variant="clevr6", size=None, samples=DEFAULT_SAMPLES):
    """Generates scenes with Blender.

    Denoised images may differ by one gray level from run to run.

    Args:
      indices, seed, variant, size: as in `clevr_scenes.scenes`.
      samples: per pixel.

    Returns:
      dict of arrays as in `clevr_scenes.scenes`.

    Raises:
      UserError: one line, if there is no Blender or it fails.
    """
    variant = clevr_scenes.get_variant(variant)
    if size is None:
        size = variant.default_size
    factors = clevr_scenes.factors(indices, seed, variant)
    job = {"samples": samples, "size": size, **_view(variant.frame), "metal": _lobes(variant)}
    with _rendered({**job, "scenes": list(_scenes(variant, factors, indices))}) as folder:
        return {**_read(folder, variant, len(indices), size), **factors}


def version():
    """Returns the version of Blender that `scenes` uses.

    It raises the same errors as `scenes`: call it before hours of work.
    """
    with _rendered({"scenes": []}) as folder:
        return (folder / "version.txt").read_text()


@contextlib.contextmanager
def _rendered(job):
    """Runs the worker on a job; the context is the folder with its results."""
    python = os.environ.get(VARIABLE) or sys.executable
    with tempfile.TemporaryDirectory(prefix="blender_scenes_") as folder:
        scenes_path = pathlib.Path(folder) / "scenes.json"
        scenes_path.write_text(json.dumps(job))
        _run([python, os.fspath(_WORKER), os.fspath(scenes_path), folder])
        yield pathlib.Path(folder)


def _view(frame):
    """Returns the camera's sensor that renders the window of a frame, and only that."""
    top, bottom = frame.rows
    left, right = frame.columns
    width = right - left
    if bottom - top != width:
        raise ValueError(
            f"`frame` must keep a square. Received: rows={frame.rows}, columns={frame.columns}."
        )

    # A smaller sensor crops, a shifted one moves the crop; Blender measures the shift in widths.
    sensor_width = _SENSOR_WIDTH * width / max(frame.width, frame.height)
    shift_right = ((left + right) - frame.width) / 2 / width
    shift_up = (frame.height - (top + bottom)) / 2 / width
    return {"sensor_width": sensor_width, "shift": (shift_right, shift_up)}


def _lobes(variant):
    """Returns (weight, roughness) of the lobes of metal.

    Roughness is the square root of the GGX width in today's Blender.
    """
    return [(weight, width**0.5) for weight, width in variant.metal_lobes]


def _scenes(variant, factors, indices):
    """Yields the worker's description of each scene."""
    for row, index in enumerate(indices):
        scene = {name: values[row].tolist() for name, values in factors.items()}
        entities = np.flatnonzero(scene["shape"])
        yield {
            "seed": int(index) % 2**31,
            "camera": scene["camera"],
            "lights": scene["lights"],
            "ground": scene["ground_reflectivity"],
            "objects": [_describe_object(variant, scene, entity) for entity in entities],
        }


def _describe_object(variant, scene, entity):
    """Returns the worker's description of one object of a scene, without codes."""
    return {
        "shape": raycast_shapes.SHAPE_NAMES[int(scene["shape"][entity]) - 1],
        "material": raycast_shading.MATERIAL_NAMES[int(scene["material"][entity]) - 1],
        "radius": variant.sizes[int(scene["size"][entity]) - 1],
        "color": scene["rgb"][entity],
        "location": [scene[name][entity] for name in ("x", "y", "z")],
        "azimuth": scene["rotation"][entity],
    }


def _run(command):
    """Runs the worker and turns its failures into a `UserError`."""
    # The packages of this Python would hide those of another environment.
    environment = dict(os.environ)
    if environment.get(VARIABLE):
        environment.pop("PYTHONPATH", None)

    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
        )
    except OSError as error:
        raise UserError(
            f"`{VARIABLE}` must be the Python of an environment with `bpy`. "
            f"Received: {command[0]} ({first_line(error)})."
        ) from error

    if result.returncode == _NO_BLENDER:
        raise UserError(
            f"This config needs Blender as a Python module, and {command[0]} has none "
            f"({first_line(result.stderr)}). With Python 3.11: pip install tfobj[blender]; or "
            f"pip install bpy==4.5.* elsewhere, and name that Python in `{VARIABLE}`. "
            "The configs raycast_... need no Blender."
        )
    if result.returncode != 0:
        last = (result.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"Blender ({command[0]}) ended with status {result.returncode}: {last}")


def _read(folder, variant, count, size):
    """Reads the worker's files into the arrays of `clevr_scenes.render`."""
    # Only this function needs Pillow.
    from PIL import Image

    image = np.zeros((count, size, size, 3), np.uint8)
    mask = np.zeros((count, size, size), np.uint8)
    amodal_masks = np.zeros((count, variant.num_entities, size, size), np.uint8)
    depth_map = np.zeros((count, size, size), np.float16)
    amodal_masks[:, 0] = 1

    for i in range(count):
        with Image.open(folder / f"{i}.png") as file:
            image[i] = np.asarray(file)
        with np.load(folder / f"{i}.npz") as arrays:
            mask[i] = arrays["mask"]
            amodal_masks[i, 1 : 1 + len(arrays["amodal_masks"])] = arrays["amodal_masks"]
            depth_map[i] = arrays["depth_map"]

    if variant.channels == 1:
        image = clevr_scenes.luma(image)
    return {"image": image, "mask": mask, "amodal_masks": amodal_masks, "depth_map": depth_map}
