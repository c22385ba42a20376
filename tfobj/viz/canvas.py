"""Figures of picture cells placed to the pixel, and the one way to write them to disk.

Figures are built on `matplotlib.figure.Figure` with an Agg canvas: without pyplot and a global
backend, they are safe in a process that trains. The first figure imports Matplotlib, not the
package.
"""

import contextlib
import functools
import io
import pathlib
import textwrap
import warnings

import numpy as np

from tfobj import files
from tfobj.data import own_files
from tfobj.errors import printable
from tfobj.viz import palette

DPI = 150
CELL_PIXELS = 170
"""Target side of a cell; small images are enlarged by the integer factor that comes nearest."""

MAX_CELL_PIXELS = 260
"""Larger images are reduced to this side."""

GAP = 8
MARGIN = 26
"""Pixels between cells, and around all of them."""

INK = "#1f2328"
SOFT_INK = "#6b7280"

TITLE_SIZE = 12.0
LABEL_SIZE = 8.5
SMALL_SIZE = 7.5

SMALL_CHARACTER = 8.2
"""Mean width of a character of the small size in pixels, rounded up."""

CAPTION_GAP = 14
CAPTION_LINE = 21
"""Pixels above a caption, and from one of its lines to the next."""


def new_figure(width, height):
    """Returns a white figure of width x height pixels at `DPI` with an Agg canvas.

    Its text is literal: a file name with two `$` is no formula. Characters that the font lacks are
    drawn as boxes, without a warning.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _literal_figure_class()(
        figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white"
    )
    FigureCanvasAgg(figure)
    return figure


@functools.cache
def _literal_figure_class():
    """Returns the class of all figures here; made on demand, because importing Matplotlib is slow.

    Text is made literal when the figure is drawn or measured, and so whoever wrote it: titles,
    labels, legends, notes. Ticks keep their formulas, the powers of log axes.
    """
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class LiteralFigure(Figure):
        def draw(self, renderer):
            self._make_literal()
            with _without_font_warnings():
                return super().draw(renderer)

        def get_tightbbox(self, *arguments, **options):
            self._make_literal()
            with _without_font_warnings():
                return super().get_tightbbox(*arguments, **options)

        def _make_literal(self):
            ticks = set()
            for axes in self.axes:
                for axis in (axes.xaxis, axes.yaxis):
                    ticks.update(map(id, axis.get_majorticklabels()))
                    ticks.update(map(id, axis.get_minorticklabels()))
                    ticks.add(id(axis.get_offset_text()))
            for text in self.findobj(Text):
                if id(text) not in ticks:
                    text.set_parse_math(False)
                    text.set_text("\n".join(map(printable, text.get_text().split("\n"))))

    return LiteralFigure


@contextlib.contextmanager
def _without_font_warnings():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


class Grid:
    """Rows and columns of equal picture cells with labels, in pixels from the top left.

    Args:
      rows, columns: number of cells.
      image_size: (H, W) of the pictures.
      title: line above everything, or "".
      left: pixels for row labels.
      header: pixels for column labels.
      bottom: pixels below the last row, for a plot or numbers.
      caption: text below all of this, wrapped to the width of the figure.
      footer: pixels below the caption.
      breaks: columns before which a wider gap separates groups; 0 has no effect.
      row_breaks: rows above which a wider gap separates groups; 0 has no effect.

    Attributes:
      figure: matplotlib.figure.Figure.
      width, height: pixels of the figure.
      cell_width, cell_height: pixels of a cell.
      below: lower edge of the last row in pixels.
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
        caption="",
        footer=0,
        breaks=(),
        row_breaks=(),
    ):
        self.cell_height, self.cell_width = cell_size(*image_size)
        self._left = MARGIN + left
        self._top = MARGIN + header
        if title:
            self._top += 38
        self._right_shift = _gaps(columns, breaks)
        self._down_shift = _gaps(rows, row_breaks)

        self.below = self.y(rows - 1) + self.cell_height
        self.width = self.x(columns - 1) + self.cell_width + MARGIN
        caption_lines = _wrap(caption, self.width - 2 * MARGIN)
        caption_height = 0
        if caption_lines:
            caption_height = CAPTION_GAP + CAPTION_LINE * len(caption_lines)
        self.height = self.below + bottom + caption_height + footer + MARGIN

        self.figure = new_figure(self.width, self.height)
        if title:
            self.text(self._left, MARGIN, title, size=TITLE_SIZE, weight="bold", va="top")
        for i, line in enumerate(caption_lines):
            y = self.below + bottom + CAPTION_GAP + CAPTION_LINE * i
            self.text(MARGIN, y, line, size=SMALL_SIZE, colour=SOFT_INK, va="top")

    def x(self, column):
        """Returns the left edge of a column in pixels."""
        return self._left + column * self.cell_width + self._right_shift[column]

    def y(self, row):
        """Returns the upper edge of a row in pixels."""
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
        """Returns new axes over a rectangle of pixels."""
        left = x / self.width
        bottom = 1.0 - (y + height) / self.height
        return self.figure.add_axes(
            (left, bottom, width / self.width, height / self.height),
        )

    def bar(self, x, y, width, height, colour):
        """Fills a rectangle of pixels with a colour."""
        axes = self.axes(x, y, width, height)
        axes.set(xticks=[], yticks=[], facecolor=colour)
        axes.spines[:].set_visible(False)

    def picture(self, row, column, picture):
        """Draws [H, W, 1 or 3] in [0, 1] in a cell without smoothing, and returns its axes."""
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
        return axes

    def column_label(self, column, text, *, colour=None):
        """Writes a label above a column, over a bar of the slot's colour if one is given."""
        centre = self.x(column) + self.cell_width / 2
        size = LABEL_SIZE if self.cell_width >= 150 else SMALL_SIZE
        self.text(centre, self._top - 20, text, ha="center", size=size)
        if colour is not None:
            self.bar(self.x(column), self._top - 9, self.cell_width, 4, colour)

    def row_label(self, row, text, note=""):
        """Writes a label to the left of a row, and a smaller note below it."""
        centre = self.y(row) + self.cell_height / 2
        right = self._left - 14
        rise = 0
        if note:
            rise = 12 + 9 * note.count("\n")
            style = {"size": SMALL_SIZE, "colour": SOFT_INK, "linespacing": 1.35}
            self.text(right, centre + 9, note, ha="right", **style)
        self.text(right, centre - rise, text, ha="right", weight="bold")


def _wrap(text, width):
    """Breaks text of the small size into lines of at most `width` pixels."""
    return textwrap.wrap(text, max(20, int(width / SMALL_CHARACTER)))


def _gaps(number, breaks):
    """Returns the pixels of all gaps before each of `number` columns or rows."""
    return [GAP * i + 2 * GAP * sum(0 < b <= i for b in breaks) for i in range(number)]


def cell_size(height, width):
    """Returns the size of a cell for an image, (height, width) in pixels.

    Small images are enlarged by an integer factor, so that every image pixel is a square.
    """
    side = max(height, width)
    scale = MAX_CELL_PIXELS / side
    if side <= MAX_CELL_PIXELS:
        scale = max(1, round(CELL_PIXELS / side))
    return max(1, round(height * scale)), max(1, round(width * scale))


def format_score(value):
    """Formats a score for a figure; NaN becomes a dash, and small numbers keep three digits."""
    if np.isnan(value):
        return "–"
    if abs(value) < 0.01:
        return f"{value:.3g}"
    return f"{value:.3f}"


def figure_to_png(figure):
    """Encodes a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def figure_to_array(figure):
    """Renders a figure to uint8 [height, width, 3], e.g. for an image summary of TensorBoard."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure, path):
    """Writes a figure atomically, in the format of the suffix: png, pdf or svg.

    PNG files carry the mark of `data.own_files`.

    Returns:
      path: pathlib.Path.
    """
    path = pathlib.Path(path)
    metadata = None
    if path.suffix.lower() == ".png":
        metadata = {"Comment": own_files.MARK}
    with files.atomic_path(path) as partial:
        figure.savefig(partial, dpi=DPI, metadata=metadata)
    return path
