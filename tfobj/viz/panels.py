"""Figures of decompositions and refinement; plain arrays in, a matplotlib `Figure` out.

    scores = {"FG-ARI": fg_ari}
    figure = decomposition_figure(image, recon, masks, slot_recons, true_mask, scores)
    save_figure(figure, "figures/scenes.png")

For videos pass one frame, `masks[:, t]`. Axes: B scenes (rows), R refinement steps, K slots.
"""

import numpy as np

from tfobj.errors import UserError
from tfobj.metrics import clustering, matching, overlap
from tfobj.structs import IGNORE_LABEL
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
    """Draws scenes as rows: input, reconstruction, segmentation, truth, then every slot.

    The segmentation is dimmed where no slot visibly draws anything (see `palette.render_masks`).
    Slots are shown over a checkerboard. A true object has the colour of its slot under the best
    one-to-one matching, in which the background takes part: equal colours mean that it was found,
    white or grey that it was missed.

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

    Raises:
      UserError: if shapes do not fit each other.
    """
    image = np.asarray(image)
    recon = np.asarray(recon)
    masks = np.asarray(masks)
    slot_recons = np.asarray(slot_recons)
    num_scenes, num_slots, height, width = _check(image, recon, masks, slot_recons)

    heads = head_names(true_mask)
    colours = palette.slot_colours(num_slots)
    rows_per_scene = 1
    row_breaks = ()
    if show_masks:
        rows_per_scene = 2
        row_breaks = range(2, 2 * num_scenes, 2)
    grid = canvas.Grid(
        num_scenes * rows_per_scene,
        len(heads) + num_slots,
        (height, width),
        title=title,
        left=room_for_labels(scene_names, scores),
        caption=palette.SEGMENTATION_CAPTION,
        breaks=(len(heads),),
        row_breaks=row_breaks,
    )
    for column, name in enumerate(heads):
        grid.column_label(column, name)
    for k in range(num_slots):
        grid.column_label(len(heads) + k, f"slot {k + 1}", colour=colours[k])

    for b in range(num_scenes):
        row = b * rows_per_scene
        grid.row_label(row, scene_name(scene_names, b), _note(scores, b))
        pictures = head_pictures(image, recon, masks, true_mask, scene=b)
        for column, picture in enumerate(pictures):
            grid.picture(row, column, picture)

        cutouts = palette.over_checkerboard(slot_recons[b], masks[b])
        for k in range(num_slots):
            grid.picture(row, len(heads) + k, cutouts[k])
            if show_masks:
                grid.picture(row + 1, len(heads) + k, masks[b, k])
    return grid.figure


def head_names(true_mask):
    """Returns the names of the pictures that `head_pictures` returns."""
    names = ["input", "reconstruction", "segmentation"]
    if true_mask is not None:
        names.append("truth")
    return names


def head_pictures(image, recon, masks, true_mask, scene):
    """Returns the pictures of one scene as a whole: input, reconstruction, segmentation, truth.

    Args:
      image, recon: [B, H, W, C] in [0, 1].
      masks: [B, K, H, W, 1], shares that sum to one over K.
      true_mask: [B, H, W] integer ids; None leaves out the truth.
      scene: which of the B scenes.

    Returns:
      pictures: list of [H, W, 1 or 3] in [0, 1].
    """
    num_slots = masks.shape[1]
    ids = clustering.segment_ids(masks[scene][None])[0]
    segmentation = palette.render_masks(masks[scene], recon[scene])
    pictures = [image[scene], recon[scene], segmentation]
    if true_mask is not None:
        true = true_mask[scene]
        pictures.append(palette.render_true_mask(true, object_slots(true, ids, num_slots)))
    return pictures


def room_for_labels(scene_names, scores=None):
    """Returns the pixels that row labels need; names and scores are wider than numbers."""
    if scores or scene_names is not None:
        return 118
    return 88


def scene_name(names, index):
    """Returns the name of a row; without `names`, scenes are counted from 1."""
    if names is None:
        return f"scene {index + 1}"
    return str(names[index])


def refinement_strip(history, *, image=None, true_mask=None, scene=0, title=""):
    """Draws one scene through refinement: a column per step.

    The rows are reconstruction, segmentation, masks and loss. The segmentation is dimmed where no
    slot visibly draws anything (see `palette.render_masks`); without reconstructions, it is dimmed
    where no slot is confident.

    Args:
      history: dict of per-step arrays: "masks" [B, R, K, H, W, 1]; optional "recon"
        [B, R, H, W, C] and "loss" [B, R] or [R].
      image: optional [B, H, W, C], drawn at the left as reference.
      true_mask: optional [B, H, W], drawn below the image.
      scene: which of the B scenes.
      title: line above the figure.

    Returns:
      matplotlib.figure.Figure.
    """
    masks = np.asarray(history["masks"])[scene]  # [R, K, H, W, 1]
    num_steps, num_slots, height, width = masks.shape[:4]
    ids = clustering.segment_ids(masks)
    colours = palette.slot_colours(num_slots)
    recon = history.get("recon")
    caption = palette.CONFIDENCE_CAPTION
    if recon is not None:
        recon = np.asarray(recon)[scene]
        caption = palette.SEGMENTATION_CAPTION
    segmentation = palette.render_masks(masks, recon)
    loss = _loss_of_scene(history.get("loss"), scene)

    names = ["segmentation", *(f"mask {k + 1}" for k in range(num_slots))]
    if recon is not None:
        names = ["reconstruction", *names]
    segmentation_row = names.index("segmentation")
    first = 0 if image is None else 1
    bottom = 0
    if loss is not None:
        bottom = 140
    grid = canvas.Grid(
        len(names),
        num_steps + first,
        (height, width),
        title=title,
        left=150,
        bottom=bottom,
        caption=caption,
        breaks=(first,),
    )
    for row, name in enumerate(names):
        grid.row_label(row, name)

    if image is not None:
        grid.column_label(0, "input")
        grid.picture(0, 0, np.asarray(image)[scene])
        if true_mask is not None:
            # The last step is the model's answer, so its slots give the truth its colours.
            true = np.asarray(true_mask)[scene]
            slots = object_slots(true, ids[-1], num_slots)
            grid.picture(1, 0, palette.render_true_mask(true, slots))
            centre = grid.x(0) + grid.cell_width / 2
            grid.text(centre, grid.y(2) + 10, "truth", ha="center", size=canvas.SMALL_SIZE)

    for r in range(num_steps):
        column = first + r
        grid.column_label(column, f"step {r + 1}")
        if recon is not None:
            grid.picture(0, column, recon[r])
        grid.picture(segmentation_row, column, segmentation[r])
        for k in range(num_slots):
            grid.picture(segmentation_row + 1 + k, column, masks[r, k] * colours[k])

    if loss is not None:
        _loss_under_columns(grid, first, loss)
    return grid.figure


def masks_grid(masks, image=None, *, title=""):
    """Draws every mask of every scene in its slot's colour: a row per scene, a column per slot.

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
        breaks=(first,),
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
    """Returns the slot whose colour each true object takes, as a dict of object id -> slot.

    Objects and background are matched one to one by IoU, so that an object does not take the slot
    of the background that swallowed it. Objects without a slot, or with a slot that they do not
    overlap, get -1.

    Args:
      true: [(T,) H, W] integer ids; 0 = background, 255 = not labelled.
      predicted: integer ids in [0, num_slots), the shape of `true`; `clustering.NO_SLOT` where
        masks are not finite.
      num_slots: K.
    """
    has_slot = predicted != clustering.NO_SLOT
    true, (ids,) = clustering.renumber(
        np.where(has_slot, true, IGNORE_LABEL)[None], ignore_label=IGNORE_LABEL
    )
    table = clustering.contingency_table(
        true,
        np.where(has_slot, predicted, 0)[None],
        num_predicted=num_slots,
        ignore_label=None,
    )
    iou = overlap.iou_from_table(table)[0]
    slots = matching.match_objects(iou)

    found = {}
    for i in range(1, len(iou)):
        overlaps = slots[i] >= 0 and iou[i, slots[i]] > 0.0
        found[int(ids[i])] = int(slots[i]) if overlaps else -1
    return found


def _loss_of_scene(loss, scene):
    """Returns the loss of every step, float64 [R], from [B, R], [R] or None."""
    if loss is None:
        return None

    loss = np.asarray(loss, np.float64)
    if loss.ndim == 1:
        return loss
    return loss[scene]


def _loss_under_columns(grid, first, loss):
    """Draws the loss of every step below the column of that step."""
    left = grid.x(first)
    right = grid.x(first + len(loss) - 1) + grid.cell_width
    top = grid.below + 30
    axes = grid.axes(left, top, right - left, 84)
    centres = [grid.x(first + r) + grid.cell_width / 2 - left for r in range(len(loss))]
    line_style = {"color": palette.SLOT_COLOURS[0], "linewidth": 1.4, "markersize": 4}
    axes.plot(centres, loss, "-o", **line_style, clip_on=False)

    number_style = {"ha": "center", "fontsize": canvas.SMALL_SIZE, "color": canvas.INK}
    for x, value in zip(centres, loss, strict=True):
        if np.isfinite(value):
            above = {"xytext": (0, 6), "textcoords": "offset points"}
            axes.annotate(f"{value:.5g}", (x, value), **above, **number_style)

    # Room above the highest point for its number; a constant loss keeps the limits of Matplotlib.
    finite = loss[np.isfinite(loss)]
    spread = np.ptp(finite) if finite.size else 0.0
    axes.set(xlim=(0, right - left), xticks=[], yticks=[])
    if spread:
        low = finite.min()
        axes.set_ylim(low - 0.12 * spread, low + 1.3 * spread)

    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color="#d0d4da", linewidth=0.8)
    grid.text(left - 14 - (grid.x(first) - grid.x(0)), top + 42, "loss", ha="right", weight="bold")


def _note(scores, index):
    lines = []
    for name, values in (scores or {}).items():
        value = float(np.asarray(values)[index])
        lines.append(f"{name} {canvas.format_score(value)}")
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
                f"`{name}` must have shape [B, K, H, W, {last}] = {expected}. Received: "
                f"{array.shape}."
            )
    return num_scenes, num_slots, height, width
