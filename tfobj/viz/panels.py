"""Figures of decompositions and refinement; plain arrays in, a matplotlib `Figure` out.

    figure = decomposition_figure(image, recon, masks, slot_recons, true_mask, scores={"FG-ARI": fg_ari})
    save_figure(figure, "figures/scenes.png")

For videos pass one frame, `masks[:, t]`. Axes: B scenes (rows), R refinement steps, K slots.
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import clustering, matching, overlap
from tfobj.viz import canvas, palette


def decomposition_figure(
    image,
    recon,
    masks,
    slot_recons,
    true_mask=None,
    scores=None,
    *,
    title="",
    scene_names=None,
    show_masks=False,
):
    """Scenes as rows: input, reconstruction, segmentation, truth, then every slot on a checkerboard.

    A true object is painted in the colour of its slot under the best one-to-one matching, in which the
    background takes part: equal colours mean found, white or grey means missed.

    Args:
      image, recon: [B, H, W, C] in [0, 1], C = 1 or 3.
      masks: [B, K, H, W, 1], shares that sum to one over K.
      slot_recons: [B, K, H, W, C], appearance before masking.
      true_mask: optional [B, H, W] integer ids; 0 = background, 255 = not labelled.
      scores: optional dict of name -> [B], printed beside each row ("–" where NaN).
      title: line above the figure.
      scene_names: optional names of the rows; None counts from 1.
      show_masks: adds a row of grey masks below every scene.

    Returns:
      matplotlib.figure.Figure.
    """
    image, recon, masks, slot_recons = map(np.asarray, (image, recon, masks, slot_recons))
    num_scenes, num_slots, height, width = _check(image, recon, masks, slot_recons)
    ids = clustering.segment_ids(masks)
    colours = palette.slot_colours(num_slots)
    heads = ["input", "reconstruction", "segmentation"] + (
        ["truth"] if true_mask is not None else []
    )
    rows_per_scene = 2 if show_masks else 1
    grid = canvas.Grid(
        num_scenes * rows_per_scene,
        len(heads) + num_slots,
        (height, width),
        title=title,
        left=118 if scores or scene_names is not None else 88,
        breaks=(len(heads),),
        row_breaks=range(2, 2 * num_scenes, 2) if show_masks else (),
    )
    for column, name in enumerate(heads):
        grid.column_label(column, name)
    for k in range(num_slots):
        grid.column_label(len(heads) + k, f"slot {k + 1}", colour=colours[k])
    for b in range(num_scenes):
        row = b * rows_per_scene
        grid.row_label(
            row,
            str(scene_names[b]) if scene_names is not None else f"scene {b + 1}",
            _note(scores, b),
        )
        pictures = [image[b], recon[b], palette.render_segmentation(ids[b], colours)]
        if true_mask is not None:
            pictures.append(
                palette.render_true_mask(
                    true_mask[b], object_slots(true_mask[b], ids[b], num_slots)
                )
            )
        for column, picture in enumerate(pictures):
            grid.picture(row, column, picture)
        cutouts = palette.over_checkerboard(slot_recons[b], masks[b])
        for k in range(num_slots):
            grid.picture(row, len(heads) + k, cutouts[k])
            if show_masks:
                grid.picture(row + 1, len(heads) + k, masks[b, k])
    return grid.figure


def refinement_strip(history, *, image=None, true_mask=None, scene=0, title=""):
    """One scene through refinement: a column per step with reconstruction, segmentation, masks and loss.

    Args:
      history: dict of per-step arrays: "masks" [B, R, K, H, W, 1]; optional "recon" [B, R, H, W, C] and
        "loss" [B, R] or [R].
      image: optional [B, H, W, C], drawn at the left as reference.
      true_mask: optional [B, H, W], drawn below the image.
      scene: which of the B scenes.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.
    """
    masks = np.asarray(history["masks"])[scene]  # [R, K, H, W, 1]
    num_steps, num_slots, height, width = masks.shape[:4]
    ids, colours = clustering.segment_ids(masks), palette.slot_colours(num_slots)
    recon = np.asarray(history["recon"])[scene] if history.get("recon") is not None else None
    loss = np.asarray(history["loss"], np.float64) if history.get("loss") is not None else None
    if loss is not None and loss.ndim == 2:
        loss = loss[scene]
    names = (["reconstruction"] if recon is not None else []) + ["segmentation"]
    first = 0 if image is None else 1
    grid = canvas.Grid(
        len(names) + num_slots,
        num_steps + first,
        (height, width),
        title=title,
        left=150,
        bottom=140 if loss is not None else 0,
        breaks=(1,) if first else (),
    )
    if image is not None:
        grid.column_label(0, "input")
        grid.picture(0, 0, np.asarray(image)[scene])
        if true_mask is not None:
            true = np.asarray(true_mask)[scene]
            grid.picture(
                1, 0, palette.render_true_mask(true, object_slots(true, ids[-1], num_slots))
            )
            grid.text(
                grid.x(0) + grid.cell_width / 2,
                grid.y(2) + 10,
                "truth",
                ha="center",
                size=canvas.SMALL_SIZE,
            )
    for row, name in enumerate([*names, *(f"mask {k + 1}" for k in range(num_slots))]):
        grid.row_label(row, name)
    for step in range(num_steps):
        column = first + step
        grid.column_label(column, f"step {step + 1}")
        if recon is not None:
            grid.picture(0, column, recon[step])
        grid.picture(len(names) - 1, column, palette.render_segmentation(ids[step], colours))
        for k in range(num_slots):
            grid.picture(len(names) + k, column, masks[step, k] * colours[k])
    if loss is not None:
        _loss_under_columns(grid, len(names) + num_slots - 1, first, loss)
    return grid.figure


def masks_grid(masks, image=None, *, title=""):
    """Every mask of every scene in its slot's colour: rows = scenes, columns = slots.

    Args:
      masks: [B, K, H, W, 1] in [0, 1].
      image: optional [B, H, W, C], drawn at the left.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.
    """
    masks = np.asarray(masks)
    num_scenes, num_slots, height, width = masks.shape[:4]
    colours = palette.slot_colours(num_slots)
    first = 0 if image is None else 1
    grid = canvas.Grid(
        num_scenes,
        first + num_slots,
        (height, width),
        title=title,
        left=78,
        breaks=(1,) if first else (),
    )
    if image is not None:
        grid.column_label(0, "input")
    for k in range(num_slots):
        grid.column_label(first + k, f"slot {k + 1}", colour=colours[k])
    for b in range(num_scenes):
        grid.row_label(b, f"scene {b + 1}")
        if image is not None:
            grid.picture(b, 0, np.asarray(image)[b])
        for k in range(num_slots):
            grid.picture(b, first + k, masks[b, k] * colours[k])
    return grid.figure


def object_slots(true, predicted, num_slots):
    """The slot whose colour each true object takes: dict of object id -> slot.

    Objects and background are matched one to one by IoU, so that an object does not take the slot of the
    background that swallowed it. Objects left without a slot, or with one they do not touch, get -1.

    Args:
      true: [H, W] integer ids; 0 = background, 255 = not labelled.
      predicted: [H, W] integer ids in [0, num_slots).
      num_slots: K.
    """
    table = clustering.contingency_table(true[None], predicted[None], num_predicted=num_slots)
    iou = overlap.iou_from_table(table)[0]
    slots = matching.match_objects(iou)
    touched = (slots >= 0) & (np.take_along_axis(iou, np.maximum(slots, 0)[:, None], 1)[:, 0] > 0.0)
    return {i: int(slots[i]) if touched[i] else -1 for i in range(1, len(iou))}


def _loss_under_columns(grid, last_row, first, loss):
    """Draws the loss of every step below the column of that step."""
    left, right = grid.x(first), grid.x(first + len(loss) - 1) + grid.cell_width
    top = grid.y(last_row) + grid.cell_height + 30
    axes = grid.axes(left, top, right - left, 84)
    centres = [grid.x(first + r) + grid.cell_width / 2 - left for r in range(len(loss))]
    axes.plot(
        centres,
        loss,
        "-o",
        color=palette.SLOT_COLOURS[0],
        linewidth=1.4,
        markersize=4,
        clip_on=False,
    )
    spread = np.ptp(loss[np.isfinite(loss)]) if np.isfinite(loss).any() else 0.0
    for x, value in zip(centres, loss, strict=True):
        if np.isfinite(value):
            axes.annotate(
                f"{value:.5g}", (x, value), (0, 6), textcoords="offset points", ha="center",
                fontsize=canvas.SMALL_SIZE, color=canvas.INK,
            )  # fmt: skip
    low = np.nanmin(loss) if spread else 0.0
    axes.set(xlim=(0, right - left), xticks=[], yticks=[])
    if spread:
        axes.set_ylim(low - 0.12 * spread, low + 1.3 * spread)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color="#d0d4da", linewidth=0.8)
    grid.text(left - 14 - (grid.x(first) - grid.x(0)), top + 42, "loss", ha="right", weight="bold")


def _note(scores, index):
    lines = []
    for name, values in (scores or {}).items():
        value = float(np.asarray(values)[index])
        lines.append(
            f"{name} {'–' if np.isnan(value) else format(value, '.3g' if abs(value) < 0.01 else '.3f')}"
        )
    return "\n".join(lines)


def _check(image, recon, masks, slot_recons):
    if image.ndim != 4 or recon.shape != image.shape:
        raise UserError(
            f"`image` and `recon` must have one shape [B, H, W, C]; pass one frame of a video. "
            f"Received: {image.shape} and {recon.shape}."
        )
    num_scenes, height, width, channels = image.shape
    num_slots = masks.shape[1] if masks.ndim > 1 else 0
    for name, array, last in (("masks", masks, 1), ("slot_recons", slot_recons, channels)):
        expected = (num_scenes, num_slots, height, width, last)
        if array.shape != expected:
            raise UserError(
                f"`{name}` must have shape [B, K, H, W, {last}] = {expected}. Received: {array.shape}."
            )
    return num_scenes, num_slots, height, width
