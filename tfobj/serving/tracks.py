"""Where the slots of a clip are: a table of tracks from label maps."""

import csv

import numpy as np

from tfobj import files

COLUMNS = ("frame", "slot", "pixels", "row", "column", "top", "left", "bottom", "right")


def track_table(segmentation, num_slots):
    """Returns one row per frame and slot that has pixels: a dict of arrays by the names in `COLUMNS`.

    Args:
      segmentation: integers [T, H, W], the slot of every pixel.
      num_slots: K.

    `slot` counts from 1, as in all figures; row and column are means over the slot's pixels; the box is that of its outermost pixels, both
    ends included.
    """
    segmentation = np.asarray(segmentation)
    _, height, width = segmentation.shape
    # Slot by slot: [T, K, H, W] at once would be 400 MB for ten minutes of video.
    sums = [
        (inside.sum(axis=2), inside.sum(axis=1))
        for inside in (segmentation == slot for slot in range(num_slots))
    ]
    by_row, by_column = (
        np.stack(of_slots, axis=1) for of_slots in zip(*sums, strict=True)
    )  # [T, K, H], [T, K, W]
    pixels = by_row.sum(axis=2)
    frame, slot = np.nonzero(pixels)
    count, rows, columns = pixels[frame, slot], by_row[frame, slot], by_column[frame, slot]
    values = (
        frame,
        slot + 1,
        count,
        rows @ np.arange(height) / count,
        columns @ np.arange(width) / count,
        (rows > 0).argmax(1),
        (columns > 0).argmax(1),
        height - 1 - (rows[:, ::-1] > 0).argmax(1),
        width - 1 - (columns[:, ::-1] > 0).argmax(1),
    )
    return dict(zip(COLUMNS, values, strict=True))


def write_tracks(path, table):
    """Writes a `track_table` as CSV; the file appears whole or not at all."""
    with files.whole(path) as partial, open(partial, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in zip(*table.values(), strict=True):
            writer.writerow([int(v) if isinstance(v, np.integer) else f"{v:.3f}" for v in row])
