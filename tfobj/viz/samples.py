"""Scenes drawn from a model's prior."""

import math

import numpy as np

from tfobj.errors import UserError
from tfobj.viz import canvas


def samples_figure(recon, *, columns=8, title=""):
    """Draws sampled scenes side by side.

    Args:
      recon: [n, H, W, C], C = 1 or 3; values outside [0, 1] are clipped.
      columns: pictures per row.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.
    """
    recon = np.asarray(recon)
    if recon.ndim != 4 or not len(recon):
        raise UserError(
            f"`recon` must have shape [n, H, W, C] with n at least 1. Received: {recon.shape}."
        )

    columns = min(columns, len(recon))
    rows = math.ceil(len(recon) / columns)
    grid = canvas.Grid(rows, columns, recon.shape[1:3], title=title, header=0)
    for i, picture in enumerate(recon):
        grid.picture(i // columns, i % columns, picture)
    return grid.figure
