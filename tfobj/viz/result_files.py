"""Decomposed pictures and tracked clips as files: figures beside the arrays that they show."""

import numpy as np

from tfobj.serving.output_files import write_arrays, write_image
from tfobj.serving.tracking import track_table, write_tracks
from tfobj.viz import palette, panels
from tfobj.viz.animation import animation_frames, save_animation
from tfobj.viz.canvas import save_figure
from tfobj.viz.filmstrip import filmstrip_figure

PICTURE_ENDINGS = ("_decomposition.png", "_segmentation.png", "_masks.npz")
"""Endings of the files of a decomposed picture or frame."""

CLIP_ENDINGS = ("_tracks.csv", "_tracks.npz", "_filmstrip.png", "_tracked.gif")
"""Endings of the files of a tracked clip."""


def draw_decomposition(image, result, out, name, title):
    """Draws `<name>_decomposition.png`: input, reconstruction, segmentation and every slot.

    Args:
      image: uint8 [H, W, C].
      result: `zoo.Decomposition` of it alone.
      out: folder.
      name: beginning of the file name.
      title: of the figure.
    """
    figure = panels.decomposition_figure(
        image[None] / np.float32(255.0),
        result.recon,
        result.masks,
        result.slot_recons,
        title=title,
        scene_names=[""],
    )
    save_figure(figure, out / f"{name}_decomposition.png")


def write_decomposition(result, out, name):
    """Writes `<name>_segmentation.png` and `<name>_masks.npz`; see `draw_decomposition`."""
    # Undimmed, unlike in figures: programs may read the slot from the colour.
    colours = palette.slot_colours(result.masks.shape[1])
    segmentation = palette.render_segmentation(result.segmentation[0], colours)
    write_image(out / f"{name}_segmentation.png", segmentation)
    write_arrays(
        out / f"{name}_masks.npz",
        masks=result.masks[0],
        slot_recons=result.slot_recons[0],
        segmentation=result.segmentation[0],
        slots=result.slots[0],
    )


def write_tracked_clip(clip, out, name, title):
    """Writes the tracks of a clip as .csv and .npz, and a filmstrip and an animation of them.

    Args:
      clip: `serving.tracking.TrackedClip`.
      out: folder.
      name: beginning of the file names.
      title: of the figures.
    """
    num_slots = clip.slots.shape[1]
    write_tracks(out / f"{name}_tracks.csv", track_table(clip.segmentation, num_slots))
    write_arrays(out / f"{name}_tracks.npz", segmentation=clip.segmentation, slots=clip.slots)

    arrays = clip.preview.arrays()
    if clip.preview.every > 1:
        title = f"{title}, every {clip.preview.every}th frame"
    save_figure(filmstrip_figure(*arrays, title=title), out / f"{name}_filmstrip.png")
    save_animation(animation_frames(*arrays, title=title), out / f"{name}_tracked.gif")
