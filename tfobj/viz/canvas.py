"""Figures of picture cells placed to the pixel, and the one way to write them to disk.

Figures are built on `matplotlib.figure.Figure` with an Agg canvas: no pyplot, no global backend, safe in
a process that trains. Matplotlib is imported by the first figure, not with the package.
"""

import io
import pathlib

import numpy as np

from tfobj import files
from tfobj.viz import palette

DPI = 150
CELL_PIXELS = 170
"""Wanted side of a cell on paper; small images are enlarged by the whole factor that comes nearest."""
MAX_CELL_PIXELS = 260
"""Larger images are reduced to this side."""
GAP, MARGIN = 8, 26
"""Pixels between cells, and around all of them."""

INK, SOFT_INK = "#1f2328", "#6b7280"
TITLE_SIZE, LABEL_SIZE, SMALL_SIZE = 12.0, 8.5, 7.5


def new_figure(width, height):
    """A white figure of width x height pixels at `DPI` with an Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


class Grid:
    """Rows and columns of equal picture cells with room for labels, addressed in pixels from the top left.

    Args:
      rows, columns: number of cells.
      image_size: (H, W) of the pictures.
      title: line above everything, or "".
      left: pixels for row labels.
      header: pixels for column labels.
      bottom: pixels below the last row, for a plot or a caption.
      breaks: columns before which a wider gap separates groups.
      row_breaks: rows above which a wider gap separates groups.
    """

    def __init__(
        self,
        rows,
        columns,
        image_size,
        *,
        title="",
        left=0,
        header=34,
        bottom=0,
        breaks=(),
        row_breaks=(),
    ):
        self.cell_height, self.cell_width = cell_size(*image_size)
        self._left, self._top = MARGIN + left, MARGIN + header + (38 if title else 0)
        self._right_shift = [
            GAP * c + 2 * GAP * sum(c >= b for b in breaks) for c in range(columns)
        ]
        self._down_shift = [
            GAP * r + 2 * GAP * sum(r >= b for b in row_breaks) for r in range(rows)
        ]
        self.width = self.x(columns - 1) + self.cell_width + MARGIN
        self.height = self.y(rows - 1) + self.cell_height + bottom + MARGIN
        self.figure = new_figure(self.width, self.height)
        if title:
            self.text(self._left, MARGIN, title, size=TITLE_SIZE, weight="bold", va="top")

    def x(self, column):
        """Left edge of a column."""
        return self._left + column * self.cell_width + self._right_shift[column]

    def y(self, row):
        """Upper edge of a row."""
        return self._top + row * self.cell_height + self._down_shift[row]

    def text(self, x, y, text, *, size=LABEL_SIZE, colour=INK, ha="left", va="center", **style):
        """Writes text at a pixel position."""
        self.figure.text(
            x / self.width,
            1.0 - y / self.height,
            text,
            fontsize=size,
            color=colour,
            ha=ha,
            va=va,
            **style,
        )

    def axes(self, x, y, width, height):
        """Axes over a rectangle of pixels."""
        return self.figure.add_axes(
            (
                x / self.width,
                1.0 - (y + height) / self.height,
                width / self.width,
                height / self.height,
            )
        )

    def picture(self, row, column, picture):
        """Draws [H, W, 1 or 3] in [0, 1] in a cell, enlarged without smoothing."""
        axes = self.axes(self.x(column), self.y(row), self.cell_width, self.cell_height)
        reduced = picture.shape[0] > self.cell_height
        axes.imshow(
            palette.to_rgb(picture),
            interpolation="antialiased" if reduced else "nearest",
            aspect="auto",
        )
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color="#d0d4da", linewidth=0.6)

    def column_label(self, column, text, *, colour=None):
        """Writes a label above a column, over a bar of the slot's colour if one is given."""
        centre = self.x(column) + self.cell_width / 2
        size = LABEL_SIZE if self.cell_width >= 150 else SMALL_SIZE
        self.text(centre, self._top - 20, text, ha="center", size=size)
        if colour is not None:
            bar = self.axes(self.x(column), self._top - 9, self.cell_width, 4)
            bar.set(xticks=[], yticks=[], facecolor=colour)
            bar.spines[:].set_visible(False)

    def row_label(self, row, text, note=""):
        """Writes a label at the left of a row, and a smaller note below it."""
        centre = self.y(row) + self.cell_height / 2
        rise = 12 + 9 * note.count("\n") if note else 0
        self.text(self._left - 14, centre - rise, text, ha="right", weight="bold")
        if note:
            self.text(
                self._left - 14,
                centre + 9,
                note,
                ha="right",
                size=SMALL_SIZE,
                colour=SOFT_INK,
                linespacing=1.35,
            )


def cell_size(height, width):
    """Pixels of a cell for an image: a whole multiple if enlarged, so that every image pixel is a square."""
    side = max(height, width)
    scale = max(1, round(CELL_PIXELS / side)) if side <= MAX_CELL_PIXELS else MAX_CELL_PIXELS / side
    return max(1, round(height * scale)), max(1, round(width * scale))


def figure_to_png(figure):
    """Encodes a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def figure_to_array(figure):
    """Renders a figure to uint8 [height, width, 3], e.g. for a TensorBoard image summary."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure, path):
    """Writes a figure (format by suffix: png, pdf, svg); the file appears whole or not at all.

    Returns:
      path: pathlib.Path.
    """
    path = pathlib.Path(path)
    with files.whole(path) as partial:
        figure.savefig(partial, dpi=DPI)
    return path
