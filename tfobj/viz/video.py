"""Figures and animations of decomposed video clips; plain arrays of one clip in.

    clip = (image[0], recon[0], masks[0], slot_recons[0], true_mask[0])
    save_figure(filmstrip_figure(*clip), "filmstrip.png")
    save_animation(animation_frames(*clip), "clip.gif")

A slot has one colour in all frames, and true objects take the colours of the slots that hold them
best over the whole clip: an object whose colour differs between segmentation and truth has switched
slots. Segmentations are dimmed where no slot visibly draws anything. The pictures are made in
`clip_pictures`, stills in `filmstrip` and animations in `animation`.
"""

from tfobj.viz.animation import SUFFIXES, animation_frames, save_animation
from tfobj.viz.clip_pictures import PREDICTED, enlarge, overlay
from tfobj.viz.filmstrip import MAX_COLUMNS, filmstrip_figure, prediction_figure

__all__ = [
    "MAX_COLUMNS",
    "PREDICTED",
    "SUFFIXES",
    "animation_frames",
    "enlarge",
    "filmstrip_figure",
    "overlay",
    "prediction_figure",
    "save_animation",
]
